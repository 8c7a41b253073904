"""Mixed precision on ResNet-32 (CIFAR-10): the plan that kbit search finds against uniform widths, as files.

python -m benchmarks.mixed_precision [OUT] [--rounder NAME]

OUT (default out/mixed) keeps what was measured; started again, it goes on. The search sees calibration images alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.measure import data, machine, table
from benchmarks.resnet20 import RECIPE
from benchmarks.resnet20 import recipe as resnet20
from exporter.pipeline import build
from exporter.recipe import Recipe, with_arguments, with_overrides
from exporter.search import Budget, search
from exporter.subject import Subject, open_subject

__all__ = ["recipe"]

WIDTHS = ("int2", "int3", "int4", "int5", "int6")


def recipe(rounder: str = "auto") -> Recipe:
    """ResNet-32 with the data of the data folder and no gates."""
    changes = {
        "source": "../tests/nets/resnet.py:resnet32", "checkpoint": str(data("resnet32-d509ac18.th")),
        "observer": "minmax", "name": "resnet32", "rounder": rounder,
    }  # fmt: skip
    return with_overrides(with_arguments(resnet20(), changes), {"gates": None})


def measured(wanted: Recipe, subject: Subject, out: Path) -> dict[str, Any]:
    """check.json of the bundle in ``out``, made unless it is there."""
    if not (out / "check.json").is_file():
        build(wanted, subject, out=out, proofs=False)
    found: dict[str, Any] = json.loads((out / "check.json").read_text("utf-8"))
    return found["artifacts"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", nargs="?", default="out/mixed", type=Path)
    parser.add_argument("--rounder", default="auto")
    given = parser.parse_args()
    wanted, out = recipe(given.rounder), given.out / given.rounder
    subject = open_subject(wanted, RECIPE.parent)
    plans: dict[str, dict[str, Any]] = {f"all {w}": {"quantize.weights": w} for w in ("int2", "int3")}
    sizes = {}
    for average in (2.5, 3.0):
        found = search(wanted, subject, Budget(average=average), out=out, widths=WIDTHS)
        plans[f"{average:g} on average"] = {"quantize.override": found.overrides()}
        sizes[f"{average:g} on average"] = found.best
        sizes |= {f"all {width}": point for width, point in found.uniform.items()}
    rows = []
    for name, changes in plans.items():
        files = measured(with_overrides(wanted, changes), subject, out / name.replace(" ", "-"))
        both = [f"{files[runtime]['metric']:.2f}" for runtime in ("float", "onnxruntime", "tflite")]
        rows.append([name, sizes[name].bytes, files["onnxruntime"]["bytes"], *both, f"{sizes[name].divergence:.4f}"])
    print(machine("torch", "onnxruntime", "ai-edge-litert"), "\n")
    head = ["weights", "weight bytes", "ONNX file", "float", "ONNX Runtime", "TFLite", "divergence in the search"]
    print(table(head, sorted(rows, key=lambda row: row[1])))


if __name__ == "__main__":
    main()
