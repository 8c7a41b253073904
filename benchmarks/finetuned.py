"""Few bits with fine-tuning: ResNet on CIFAR-10, trained on 10,000 images, measured by the bundle's own checker.

python -m benchmarks.finetuned [WEIGHTS ...] [--net resnet20] [--epochs 2] [--samples 10000] [--out out/finetuned]

WEIGHTS are values of quantize.weights (default int4 int3 int2). A run that was killed goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import resnet20
from benchmarks.measure import data, machine, table
from exporter import Recipe
from exporter.pipeline import Outcome, run
from exporter.recipe import with_arguments

__all__ = ["HEAD", "recipe", "row"]

CHECKPOINTS = {"resnet20": "resnet20-12fca82f.th", "resnet32": "resnet32-d509ac18.th"}
HEAD = [
    "weights",
    "epochs",
    "kept",
    "training reported",
    "ONNX Runtime",
    "TFLite",
    "float",
    "outputs equal, %",
    "minutes",
]


def recipe(net: str, **keys: Any) -> Recipe:
    """The recipe of benchmarks.resnet20 for one of the nets, with training samples."""
    given = {
        "name": net,
        "source": f"../tests/nets/resnet.py:{net}",
        "checkpoint": str(data(CHECKPOINTS[net])),
        "finetune": str(data("cifar10_train10k.npz")),
        "augment": ["flip", "shift"],
        **keys,
    }
    return with_arguments(resnet20.recipe(), given)


def row(outcome: Outcome, weights: str, minutes: float) -> list[str]:
    """Epochs, metric as trained and of each file in points, equal answers of both files in %, and minutes."""
    history, check = outcome.training[-1], outcome.check
    facts: Mapping[str, Any] = check["artifacts"]
    runtimes = [f"{facts[name]['metric']:.2f}" for name in ("onnxruntime", "tflite", "float")]
    equal = f"{100 * check['agreement']['equal']:.2f}"
    epochs = [str(len(history.epochs) - 1), str(history.kept)]
    return [weights, *epochs, f"{history.metric:.2f}", *runtimes, equal, f"{minutes:.1f}"]


def main() -> None:
    """One network, trained anew at each width."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", default=["int4", "int3", "int2"])
    parser.add_argument("--net", choices=list(CHECKPOINTS), default="resnet20")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("out/finetuned"))
    asked = parser.parse_args()
    rows = []
    for weights in asked.weights:
        folder = asked.out.resolve() / f"{asked.net}-{weights}"
        shutil.rmtree(folder, ignore_errors=True)
        keys = {"weights": weights, "epochs": asked.epochs, "finetune_samples": asked.samples}
        keys["finetune_checkpoint"] = f"{folder}.ckpt"
        start = time.perf_counter()
        outcome = run(recipe(asked.net, **keys), base=resnet20.RECIPE.parent, out=folder)
        rows.append(row(outcome, weights, (time.perf_counter() - start) / 60))
        print(table(HEAD, rows[-1:]), flush=True)
    print(machine("torch", "onnxruntime", "ai-edge-litert"), "\n")
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
