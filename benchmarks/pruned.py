"""Structured pruning of ResNet-32: metric and latency of the int8 artifacts against those of the whole network.

python -m benchmarks.pruned make [OUT] [--amount 0.3] [--multiple 16] [--samples 10000] [--epochs 4]   # trains
python -m benchmarks.pruned latency [OUT] # of the files that make left, in turns
python -m benchmarks.pruned lots [OUT]    # latency by amount and multiple, without training; after make

OUT is out/pruned by default. A run that was killed goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from benchmarks import resnet20
from benchmarks.finetuned import recipe
from benchmarks.measure import cifar10, interleaved, machine, table
from benchmarks.runners import onnx_runner, tflite_runner
from exporter import packing
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.pipeline import run
from exporter.preparing import INT8_PASSES, prepare
from exporter.pruning import prune
from exporter.quantization import quantize
from exporter.quantize import apply
from exporter.recipe import Prune, Quantize

__all__ = ["latency", "lots", "make"]

RUNNERS: Mapping[str, Callable[[Path], Any]] = {"onnxruntime": onnx_runner, "tflite": tflite_runner}
FILES = {"onnxruntime": "model.onnx", "tflite": "model.tflite"}


def make(out: Path, amount: float, multiple: int, samples: int, epochs: int) -> None:
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


def latency(out: Path) -> None:
    """The int8 files of the pruned network against those of the whole, on one image."""
    image = cifar10("cifar10_test2000.npz")[0][:1]
    rows = []
    for artifact, file in FILES.items():
        whole, less = (RUNNERS[artifact](out / name / file) for name in ("whole", "pruned"))
        before, after, ratio = interleaved(lambda: whole(image), lambda: less(image))  # noqa: B023
        rows.append([artifact, f"{before:.3f}", f"{after:.3f}", f"{1 / ratio:.2f}"])
    print(machine("onnxruntime", "ai-edge-litert"), "\n")
    print(table(["artifact", "ms, whole", "ms, pruned", "of the whole"], rows))


def lots(out: Path) -> None:
    """CPU time of one thread on one image, in turns: it hardly sees what else the machine does."""
    whole = out / "whole"
    model = prepare(ir.load(whole / "float.onnx"), INT8_PASSES)
    images = cifar10("cifar10_calib.npz")[0]
    name = str(model.graph.inputs[0].name)

    def batches(count: int, size: int) -> list[dict[str, Any]]:
        turned = np.ascontiguousarray(images[:count].transpose(0, 3, 1, 2))
        return [{name: turned[start : start + size]} for start in range(0, count, size)]

    places = {("whole", ""): (whole, 0.0)}
    for multiple, amount in ((8, 0.3), (16, 0.3), (16, 0.4)):
        less = prune(model, Prune("channels", amount, multiple), batches(128, 8))
        found = quantize(less.model, Quantize(), lambda: batches(64, 32))
        graph, folder = apply(found.model, found.rounded), out / f"{multiple}-{amount:g}"
        folder.mkdir(exist_ok=True)
        (folder / FILES["onnxruntime"]).write_bytes(packing.onnx_bytes(emit_onnx(graph, found.rounded.plan), lean=True))
        (folder / FILES["tflite"]).write_bytes(emit_tflite(graph, found.rounded.plan, channels_last=True))
        gone = 100 * (1 - less.facts.multiply_adds / less.facts.multiply_adds_before)
        places[str(multiple), f"{amount:g}"] = folder, gone
    rows = []
    for artifact, file in FILES.items():
        runs = {which: RUNNERS[artifact](folder / file) for which, (folder, _) in places.items()}
        times: dict[Any, list[float]] = {which: [] for which in runs}
        for _ in range(120):
            for which, run_once in runs.items():
                start = time.thread_time_ns()
                for _ in range(5):
                    run_once(images[:1])
                times[which].append((time.thread_time_ns() - start) / 5e6)
        first = np.array(times["whole", ""])
        for which, found_times in times.items():
            ratio = np.median(np.array(found_times) / first)
            rows.append([artifact, *which, f"{places[which][1]:.1f}", f"{np.median(found_times):.3f}", f"{ratio:.3f}"])
    print(machine("onnxruntime", "ai-edge-litert"), "\n")
    head = ["artifact", "multiple", "amount", "multiply-adds removed, %", "CPU ms", "of the whole"]
    print(table(head, rows))


def main() -> None:
    """Make the bundles, or measure those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "latency", "lots"])
    parser.add_argument("out", nargs="?", type=Path, default=Path("out/pruned"))
    parser.add_argument("--amount", type=float, default=0.3)
    parser.add_argument("--multiple", type=int, default=16)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4)
    asked = parser.parse_args()
    if asked.what == "make":
        make(asked.out, asked.amount, asked.multiple, asked.samples, asked.epochs)
    else:
        {"latency": latency, "lots": lots}[asked.what](asked.out)


if __name__ == "__main__":
    main()
