"""Draw what a bundle's checker found: accuracy, latency and size of the float model and of both artifacts.

python -m benchmarks.chart [BUNDLE] [OUT.svg]

Defaults: out/resnet20 (made by benchmarks.resnet20) and docs/resnet20.svg, the picture in the README.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

NAMES = {"float": "float32\nONNX Runtime", "onnxruntime": "int8\nONNX Runtime", "tflite": "int8\nTFLite"}
COLOURS = ("#8a8f98", "#2f6fb2", "#d9822b")


def draw(bundle: Path, out: Path) -> None:
    """Three bar charts in a row, as SVG; the same figures give the same bytes."""
    check = json.loads((bundle / "check.json").read_text("utf-8"))
    facts = [check["artifacts"][name] for name in NAMES]
    panels = (
        ("top-1 accuracy, %", [f["metric"] for f in facts], "{:.2f}"),
        ("latency, ms (median, 1 thread)", [f["latency_ms"]["p50"] for f in facts], "{:.2f}"),
        ("file size, kB", [f["bytes"] / 1000 for f in facts], "{:.0f}"),
    )
    with mpl.rc_context({"svg.hashsalt": "kbit", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(9.6, 2.6), layout="constrained")
        figure.suptitle(
            f"{bundle.name}: one plan, two runtimes; the two int8 files agree on "
            f"{100 * check['agreement']['top1']:.2f} % of {check['evaluation_samples']:,} images",
            fontsize=11,
        )
        for axes, (title, values, form) in zip(figure.subplots(1, 3), panels, strict=True):
            bars = axes.bar(list(NAMES.values()), values, color=COLOURS, width=0.62)
            axes.bar_label(bars, [form.format(v) for v in values], fontsize=9)
            axes.set_title(title, fontsize=10)
            axes.set_ylim(0, max(values) * 1.18)
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.set_yticks([])
            axes.tick_params(axis="x", labelsize=8, length=0)
        figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    draw(*(given + [Path("out/resnet20"), Path("docs/resnet20.svg")][len(given) :]))
