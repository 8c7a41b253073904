"""Structured pruning of ResNet-32: metric and latency of the int8 artifacts against those of the whole network.

python -m benchmarks.pruned make  [OUT] [--amount 0.3] [--samples 10000] [--epochs 4]   # both bundles; trains
python -m benchmarks.pruned time  [OUT]                                                 # interleaved, one thread

OUT is out/pruned by default. A run that was killed goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import resnet20
from benchmarks.finetuned import recipe
from benchmarks.measure import cifar10, interleaved, machine, table
from benchmarks.runners import onnx_runner, tflite_runner
from exporter.pipeline import run

__all__ = ["make", "measure"]

RUNNERS: Mapping[str, Callable[[Path], Any]] = {"onnxruntime": onnx_runner, "tflite": tflite_runner}
FILES = {"onnxruntime": "model.onnx", "tflite": "model.tflite"}


def make(out: Path, amount: float, samples: int, epochs: int) -> None:
    """Without training on integers: int8 by calibration, before and after pruning."""
    wholes: dict[str, Any] = {"finetune": None}
    less = {
        "prune": "channels",
        "prune_amount": amount,
        "prune_epochs": epochs,
        "epochs": 0,
        "finetune_samples": samples,
    }
    for name, keys in {"whole": wholes, "pruned": less}.items():
        folder = out.resolve() / name
        if name == "whole" and (folder / "check.json").exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        run(recipe("resnet32", finetune_checkpoint=f"{folder}.ckpt", **keys), base=resnet20.RECIPE.parent, out=folder)
    rows = []
    for name in ("whole", "pruned"):
        check = json.loads((out / name / "check.json").read_text())["artifacts"]
        analysis = json.loads((out / name / "analysis.json").read_text())
        pruning = analysis["pruning"]
        share = (
            "" if pruning is None else f"{100 * (1 - pruning['multiply_adds'] / pruning['multiply_adds_before']):.1f}"
        )
        reported = f"{analysis['training'][-1]['metric']:.2f}" if analysis["training"] else ""
        for artifact in ("onnxruntime", "tflite"):
            facts = check[artifact]
            rows.append([name, artifact, share, reported, f"{facts['metric']:.2f}", facts["bytes"]])
    print(table(["network", "artifact", "multiply-adds removed, %", "float, after training", "top-1 %", "bytes"], rows))


def measure(out: Path) -> None:
    """One thread, one image, in turns."""
    image = cifar10("cifar10_test2000.npz")[0][:1]
    rows = []
    for artifact, file in FILES.items():
        whole, pruned = (RUNNERS[artifact](out / name / file) for name in ("whole", "pruned"))
        less, more, ratio = interleaved(lambda: pruned(image), lambda: whole(image))  # noqa: B023
        rows.append([artifact, f"{more:.3f}", f"{less:.3f}", f"{ratio:.3f}"])
    print(machine("onnxruntime", "ai-edge-litert"), "\n")
    print(table(["artifact", "whole, ms", "pruned, ms", "pruned / whole"], rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "time"])
    parser.add_argument("out", nargs="?", type=Path, default=Path("out/pruned"))
    parser.add_argument("--amount", type=float, default=0.3)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    if asked.what == "make":
        make(asked.out, asked.amount, asked.samples, asked.epochs)
    else:
        measure(asked.out)


if __name__ == "__main__":
    main()
