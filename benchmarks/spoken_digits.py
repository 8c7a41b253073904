"""Spoken digits: train a small depthwise-separable CNN on real recordings, then float to both int8 artifacts.

python -m benchmarks.spoken_digits [OUT]

OUT (default out/spoken_digits) is the bundle's folder; an earlier one there is replaced. Trains for about a minute
unless benchmarks/speech/out/ holds the weights of an earlier run.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.measure import machine, summary
from benchmarks.speech.train import train
from exporter import read_recipe
from exporter.pipeline import Outcome, run

__all__ = ["export"]

RECIPE = Path(__file__).parent / "speech" / "recipe.toml"


def export(out: Path) -> Outcome:
    """The whole line; trains first when there are no weights yet."""
    if not (RECIPE.parent / "out" / "weights.pt").exists():
        train()
    return run(read_recipe(RECIPE), base=RECIPE.parent, out=out)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/spoken_digits")
    shutil.rmtree(folder, ignore_errors=True)
    outcome = export(folder)
    print(machine("torch", "onnxruntime", "ai-edge-litert"), "\n")
    print(summary(outcome.check))
