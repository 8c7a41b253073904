"""The fix ladder on a MobileNetV2 (CIFAR-10) with one weight scale to a tensor, which fails its gate.

python -m benchmarks.tune [OUT]

Needs the weights that benchmarks.mobilenet.train makes. OUT (default out/tune): the recipe that passes, the receipts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.measure import machine, table
from benchmarks.mobilenet.train import OUT as WEIGHTS
from benchmarks.resnet20 import RECIPE
from benchmarks.resnet20 import recipe as resnet20
from exporter.recipe import Recipe, with_arguments, with_overrides
from exporter.report import render_tune
from exporter.subject import open_subject
from exporter.tuning import tune

__all__ = ["recipe"]


def recipe() -> Recipe:
    """Per tensor, rounded to nearest; at most 0.3 points may be lost."""
    changes = {
        "source": "mobilenet/train.py:build", "checkpoint": str(WEIGHTS / "weights.pt"),
        "observer": "minmax", "granularity": "tensor", "rounder": "nearest", "name": "mobilenet_v2",
    }  # fmt: skip
    return with_overrides(with_arguments(resnet20(), changes), {"gates": {"max_drop": 0.3, "min_agreement": None}})


def main() -> None:
    """Drop after each step in points, what it won and what it costs in ms and bytes, and seconds it took."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "out/tune")
    wanted = recipe()
    found = tune(wanted, open_subject(wanted, RECIPE.parent), base=RECIPE.parent, out=out)
    render_tune(out, json.loads(found.to_json()), wanted.gates.max_drop)
    rows = []
    for row in found.receipts:
        points = "" if row.points is None else f"{row.points:+.2f}"
        paid = ("", "") if row.points is None else (f"{row.ms:+.3f}", f"{row.bytes:+d}")
        drop = "" if row.drop is None else f"{row.drop:.2f}"
        rows.append([row.step, row.verdict, drop, points, *paid, f"{row.seconds:.0f}"])
    print(machine("torch", "onnxruntime", "ai-edge-litert"), "\n")
    print(table(["step", "verdict", "drop", "points won", "ms added", "bytes added", "s"], rows))


if __name__ == "__main__":
    main()
