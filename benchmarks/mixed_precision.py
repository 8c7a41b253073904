"""Mixed precision on ResNet-32 (CIFAR-10): the plan that kbit search finds against uniform widths, as files.

python -m benchmarks.mixed_precision [OUT] [--rounder NAME]
python -m benchmarks.mixed_precision [OUT] --latency # ResNet-20, int8 and float by layer: predicted and measured
python -m benchmarks.mixed_precision [OUT] --alike   # one search whole, killed half-way, and on a Dask cluster

OUT (default out/mixed) keeps what was measured; started again, it goes on. The search sees calibration images alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import cifar10, data, interleaved, machine, table
from benchmarks.resnet20 import RECIPE
from benchmarks.resnet20 import recipe as resnet20
from benchmarks.runners import onnx_runner
from exporter.pipeline import build
from exporter.recipe import Recipe, with_arguments, with_overrides
from exporter.reference import divergence
from exporter.search import Budget, search
from exporter.subject import Subject, open_subject

__all__ = ["Logits", "nearness", "recipe"]

Logits = npt.NDArray[np.float64]
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


def nearness(exact: Logits, found: Logits) -> tuple[float, float]:
    """Of logits [N,10] to the float network's: mean divergence, nats; same class, per cent."""
    return divergence(exact, found, classes=True), 100 * float(np.mean(exact.argmax(1) == found.argmax(1)))


def _shipped(bundle: Path) -> tuple[float, float]:
    """Nearness of the bundle's ONNX file to its float file on the 2,000 test images."""
    images = cifar10("cifar10_test2000.npz")[0]
    runs = (onnx_runner(bundle / name) for name in ("float.onnx", "model.onnx"))
    exact, found = (np.concatenate([run(image[None]) for image in images]).astype(np.float64) for run in runs)
    return nearness(exact, found)


def once(out: Path, scheduler: str | None) -> None:
    """A shorter search: 3 bits on average of 2 to 4, 64 calibration images."""
    subject = open_subject(recipe(), RECIPE.parent)
    budget = Budget(average=3.0)
    search(recipe(), subject, budget, out=out, widths=WIDTHS[:3], samples=64, workers=2, scheduler=scheduler)


def alike(out: Path) -> None:
    """The same search three times: whole, killed half-way and resumed, on a local Dask cluster of two workers."""
    from dask.distributed import LocalCluster

    def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "benchmarks.mixed_precision", str(folder), "--once", *more])

    def lines(folder: Path) -> int:
        path = folder / "journal.jsonl"
        return len(path.read_text("utf-8").splitlines()) if path.is_file() else 0

    shutil.rmtree(out, ignore_errors=True)
    rows, places = [], {name: out / name for name in ("whole", "killed", "dask")}
    start(places["whole"]).wait()
    every = lines(places["whole"])
    halved = start(places["killed"])
    while lines(places["killed"]) < every / 2 and halved.poll() is None:
        time.sleep(0.2)
    halved.kill()
    halved.wait()
    killed_at = lines(places["killed"])
    start(places["killed"]).wait()
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        start(places["dask"], "--scheduler", cluster.scheduler_address).wait()
    expected = (places["whole"] / "search.json").read_bytes()
    for name, place in places.items():
        body = (place / "search.json").read_bytes()
        rows.append([name, killed_at if name == "killed" else "", lines(place) - 1, body == expected])
    print(table(["search", "killed after", "measured", "search.json the same"], rows))


def within_latency(out: Path) -> None:
    """What is predicted for plans of int8 and float layers of ResNet-20, and what their ONNX files take."""
    wanted = with_overrides(resnet20(), {"gates": None})
    subject = open_subject(wanted, RECIPE.parent)
    image, rows = cifar10("cifar10_test2000.npz")[0][:1], []
    for share in (0.6, 0.7, 0.85):
        budget = Budget(latency=share, target="host", runtimes=("onnxruntime",))
        found = search(wanted, subject, budget, out=out, samples=128)
        plans = {f"{share:g} of float's": found.best} | ({"all int8": found.uniform["int8"]} if not rows else {})
        for name, point in plans.items():
            pairs = zip(found.layers, point.widths, strict=True)
            some = [{"match": layer.weight, "weights": width} for layer, width in pairs]
            bundle = out / name.replace(" ", "-")
            files = measured(with_overrides(wanted, {"quantize.override": some}), subject, bundle)
            runs = [onnx_runner(bundle / path) for path in ("model.onnx", "float.onnx")]
            took = interleaved(*(partial(run, image) for run in runs))[2]
            far, _ = _shipped(bundle)
            rows.append([name, point.widths.count("int8"), f"{point.time:.3f}", f"{took:.3f}",
                         f"{point.shipped.divergence if point.shipped else point.divergence:.5f}", f"{far:.5f}",
                         f"{files['onnxruntime']['metric']:.2f}"])  # fmt: skip
    print(machine("onnxruntime"), "\n")
    head = [
        "plan",
        "layers in int8",
        "latency, predicted",
        "measured",
        "divergence, calibration",
        "test images",
        "top-1",
    ]
    print(table(head, rows))


def compare(out: Path, rounder: str) -> None:
    """Searched plans against uniform widths, as files."""
    wanted = recipe(rounder)
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
        far, same = _shipped(out / name.replace(" ", "-"))
        point = sizes[name]
        seen = f"{point.divergence:.4f}", f"{point.shipped.divergence:.4f}"
        rows.append([name, point.bytes, files["onnxruntime"]["bytes"], *both, *seen, f"{far:.4f}", f"{same:.2f}"])
    print(machine("torch", "onnxruntime", "ai-edge-litert"), "\n")
    head = ["weights", "weight bytes", "ONNX file", "float", "ONNX Runtime", "TFLite", "rounded apart, nats",
            "as exported", "test images", "class as float's, %"]  # fmt: skip
    print(table(head, sorted(rows, key=lambda row: row[1])))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", nargs="?", default="out/mixed", type=Path)
    parser.add_argument("--rounder", default="auto")
    parser.add_argument("--alike", action="store_true")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--scheduler", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        once(given.out, given.scheduler)
    elif given.latency:
        within_latency(given.out / "latency")
    elif given.alike:
        alike(given.out / "alike")
    else:
        compare(given.out / given.rounder, given.rounder)


if __name__ == "__main__":
    main()
