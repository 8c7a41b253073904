"""kbit sweep, 1 to 8 bits, on a CNN and on a transformer: metric, bytes and latency of every file.

python -m benchmarks.sweep resnet20 [OUT] [--bits 1..8] [--rounder NAME]
python -m benchmarks.sweep minilm [OUT] [--bits 1..8] [--rounder NAME] [--pairs 100]
    weights by 32, activations dynamic

OUT (default out/sweep) keeps what was measured, sweep.json and the plot, sweep.html; started again, it goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks import minilm, resnet20
from benchmarks.measure import machine, table
from exporter.recipe import Recipe, from_dict, with_overrides
from exporter.report import render_sweep
from exporter.subject import open_subject
from exporter.sweeping import parse_bits, sweep


def transformer(out: Path, pairs: int) -> Recipe:
    """The recipe of MiniLM for one sentence of 64 tokens; its data are written to ``out``."""
    ids, mask, scores = minilm.corpus()
    first, last = minilm.CALIBRATION, minilm.CALIBRATION + 2 * pairs
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "calibration.npz", tokens=ids[:first], mask=mask[:first])
    labels = np.repeat(scores[first // 2 : last // 2], 2)
    np.savez(out / "evaluation.npz", tokens=ids[first:last], mask=mask[first:last], labels=labels)
    tokens = {"shape": [1, ids.shape[1]], "dtype": "int64"}
    source = Path(__file__).resolve().parent.parent / "tests" / "nets" / "transformer.py"
    return from_dict(
        {
            "name": "minilm",
            "model": {"source": f"{source}:minilm", "inputs": {"tokens": tokens, "mask": tokens}},
            "data": {
                "calibration": str(out / "calibration.npz"),
                "evaluation": str(out / "evaluation.npz"),
                "metric": "spearman",
                "calibration_samples": 128,
            },
            "quantize": {"activations": "dynamic", "granularity": 32},
        }
    )


def main() -> None:
    """Metric, drop, bytes and median ms of each width and artifact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=["resnet20", "minilm"])
    parser.add_argument("out", nargs="?", type=Path, default=Path("out/sweep"))
    parser.add_argument("--bits", default="1..8")
    parser.add_argument("--rounder", default="auto")
    parser.add_argument("--pairs", type=int, default=100)
    given = parser.parse_args()
    out = given.out.resolve() / given.net
    wanted = resnet20.recipe() if given.net == "resnet20" else transformer(out, given.pairs)
    subject = open_subject(with_overrides(wanted, {"gates": None}), resnet20.RECIPE.parent)
    found = sweep(wanted, subject, parse_bits(given.bits), out=out, rounders=[given.rounder])
    render_sweep(out, json.loads(found.to_json()))
    whole = found.float
    rows = [["float", "", whole["bytes"], f"{whole['metric']:.2f}", "", f"{whole['p50_ms']:.3f}"]]
    for p in found.points:
        rows.append([p.width, p.artifact, p.bytes, f"{p.metric:.2f}", f"{p.drop:.2f}", f"{p.p50_ms:.3f}"])
    print(machine("onnxruntime", "ai-edge-litert"), "\n")
    print(table(["weights", "artifact", "bytes", found.metric, "drop", "p50 ms"], rows))


if __name__ == "__main__":
    main()
