"""Calibration and quantization against onnxruntime's own tool: wall time and peak memory, each run in its own process.

python -m benchmarks.calibration [--counts 512 4096] [--rounds 3] [--threads N] [--only NAME ...]

The float graph is ResNet-20, the images CIFAR-10 (repeated with noise where a count needs more). Every contestant goes
from the float ONNX file and the same .npz of uint8 images to an int8 QDQ file: ours load, prepare, calibrate, plan,
apply, emit; theirs quantize_static with int8 weights per channel, one image at a time as its examples do. Contestants
take turns in every round; the table holds medians. Seconds leave imports out; the peak is the whole process's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import ROOT, data, machine, table
from benchmarks.peak import peak_bytes
from targets.agent import preprocess

__all__ = ["main"]

SPEC = {
    "source_layout": "NHWC",
    "scale": 1 / 255,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
SHAPE = ["batch", 3, 32, 32]
OURS = ("minmax", "percentile", "mse", "entropy")
THEIRS = ("MinMax", "Entropy", "Percentile")


def ours(observer: str, model: Path, samples: Path, count: int, out: Path) -> Callable[[], dict[str, float]]:
    """Work to be timed: kbit writes the int8 file from ``count`` images; gives seconds by part."""
    import onnx_ir as ir

    from exporter.calibration import OBSERVERS, calibrate
    from exporter.data import open_dataset
    from exporter.emit.ort import emit_onnx
    from exporter.loading import load
    from exporter.preparing import INT8_PASSES, prepare
    from exporter.quantize import apply, make_plan, planned_activations
    from exporter.recipe import InputSpec, Model, Preprocess, Quantize

    def work() -> dict[str, float]:
        start = time.perf_counter()
        graph = prepare(load(Model(str(model))), INT8_PASSES)
        ready = time.perf_counter()
        dataset = open_dataset(
            str(samples),
            {"image": InputSpec(list(SHAPE))},
            {"image": Preprocess(**SPEC)},
            limit=count,  # type: ignore[arg-type]
        )
        stats = calibrate(graph, dataset.batches(8), values=planned_activations(graph))
        seen = time.perf_counter()
        plan = make_plan(graph, stats, Quantize(observer=observer), observe=OBSERVERS[observer])
        ir.save(emit_onnx(apply(graph, plan)), out)
        return {"prepare": ready - start, "calibrate": seen - ready, "plan": time.perf_counter() - seen}

    return work


def theirs(method: str, model: Path, samples: Path, count: int, out: Path) -> Callable[[], dict[str, float]]:
    """The same with quantize_static of onnxruntime, by one of its calibration methods; it gives no parts."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            with np.load(samples) as archive:
                images = archive["images"][:count]
            self.feeds: Iterator[Any] = ({"image": preprocess.apply(image[None], SPEC, SHAPE)} for image in images)

        def get_next(self) -> Any:
            return next(self.feeds, None)

    def work() -> dict[str, float]:
        quantize_static(
            str(model),
            str(out),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
        )
        return {}

    return work


def one(name: str, folder: Path, count: int) -> None:
    """A single run in this process; one line of JSON."""
    make = ours if name in OURS else theirs
    with tempfile.TemporaryDirectory() as scratch:
        work = make(name, folder / "float.onnx", folder / f"{count}.npz", count, Path(scratch) / "int8.onnx")
        start = time.perf_counter()
        parts = work()
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": peak_bytes() / 1e6, **parts}))


def prepare_files(folder: Path, counts: list[int]) -> None:
    """float.onnx, cleaned by onnxruntime's own pre-processing (both start from it), and N.npz."""
    import onnx_ir as ir
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from benchmarks.resnet20 import RECIPE, recipe
    from exporter import emit_onnx, load

    ir.save(emit_onnx(load(recipe().model, base=RECIPE.parent)), folder / "raw.onnx")
    quant_pre_process(str(folder / "raw.onnx"), str(folder / "float.onnx"))
    rng = np.random.default_rng(0)
    with np.load(data("cifar10_calib.npz")) as archive:
        images = archive["images"]
    for count in counts:
        more = images[np.arange(count) % len(images)].astype(np.int16)
        more[len(images) :] += rng.integers(-8, 9, more[len(images) :].shape, np.int16)
        np.savez(folder / f"{count}.npz", images=np.clip(more, 0, 255).astype(np.uint8))


def measure(folder: Path, name: str, count: int) -> dict[str, float]:
    """One run in a process of its own: seconds of the whole and of each part, peak memory in MB."""
    command = [sys.executable, "-m", "benchmarks.calibration", "--one", name]
    command += ["--folder", str(folder), "--counts", str(count)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Medians over the rounds for each tool and count: seconds, peak in MB, and its growth from the first count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[*OURS, *THEIRS], default=[*OURS, *THEIRS])
    parser.add_argument("--one", choices=[*OURS, *THEIRS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.one, given.folder, given.counts[0])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        if not (folder / "float.onnx").exists():
            prepare_files(folder, given.counts)
        rows: list[list[object]] = []
        first: dict[str, float] = {}  # peak at the first count
        for count in given.counts:
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in given.only}
            for turn in range(given.rounds):
                for contestant in given.only if turn % 2 else reversed(given.only):
                    runs[contestant].append(measure(folder, contestant, count))
            for contestant, results in runs.items():
                middle = {key: statistics.median(r[key] for r in results) for key in results[0]}
                parts = [f"{middle[k]:.2f}" if k in middle else "" for k in ("seconds", "prepare", "calibrate", "plan")]
                base = first.setdefault(contestant, middle["peak"])
                rows.append([contestant, count, *parts, f"{middle['peak']:.0f}", f"{middle['peak'] / base:.3f}"])
    print(machine("onnxruntime", "numpy"), "\n")
    head = ["contestant", "images", "s", "prepare", "calibrate", "plan and write", "peak MB", "of the first count's"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
