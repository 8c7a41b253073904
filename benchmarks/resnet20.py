"""ResNet-20 on CIFAR-10: from the float checkpoint to both int8 artifacts, measured by the bundle's own checker.

python -m benchmarks.resnet20 [OUT]

OUT (default out/resnet20) is the bundle's folder; an earlier one there is replaced.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.measure import data, machine, summary
from exporter import Recipe, read_recipe
from exporter.pipeline import Outcome, run
from exporter.recipe import with_arguments

__all__ = ["export", "recipe"]

RECIPE = Path(__file__).resolve().with_suffix(".toml")


def recipe() -> Recipe:
    """The recipe beside this file with the data of the data folder."""
    places = {
        "checkpoint": "resnet20-12fca82f.th",
        "calibration": "cifar10_calib.npz",
        "evaluation": "cifar10_test2000.npz",
    }
    given = {key: str(data(name)) for key, name in places.items()}
    return with_arguments(read_recipe(RECIPE), given)


def export(out: Path) -> Outcome:
    """The whole line."""
    return run(recipe(), base=RECIPE.parent, out=out)


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/resnet20")
    shutil.rmtree(folder, ignore_errors=True)
    outcome = export(folder)
    print(machine("torch", "onnxruntime", "ai-edge-litert"), "\n")
    print(summary(outcome.check))
