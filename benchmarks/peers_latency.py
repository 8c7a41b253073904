"""int8 ResNet-20: our two files against the files of the tools that people use today, interleaved, one thread.

python -m benchmarks.peers_latency [BUNDLE]

BUNDLE is what benchmarks.resnet20 made (default out/resnet20). ONNX: onnxruntime.quantization.quantize_static, QDQ, its
MinMax over the same 512 images, uint8 activations, int8 weights per channel, after its own pre-processing. TFLite:
litert-torch and ai-edge-quantizer, static int8 with float inputs and outputs in NHWC. They have an environment of
their own (benchmarks/peers.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.measure import ROOT, cifar10, interleaved, machine, table
from benchmarks.peers import litert
from benchmarks.resnet20 import RECIPE, recipe
from benchmarks.runners import onnx_runner, tflite_runner
from exporter import emit_onnx, emit_tflite, load

Images = npt.NDArray[np.float32]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """One image [1,3,32,32] after the other."""

    def __init__(self, images: Images) -> None:
        self.feeds: Iterator[dict[str, Images]] = ({"image": image[None]} for image in images)

    def get_next(self) -> dict[str, Images] | None:
        return next(self.feeds, None)


def peer_onnx(folder: Path, images: Images) -> Path:
    """The same float graph through quantize_static."""
    source, ready, out = (folder / f"{name}.onnx" for name in ("float", "ready", "static"))
    given = recipe()
    ir.save(emit_onnx(load(given.model, base=RECIPE.parent)), source)
    quant_pre_process(str(source), str(ready))
    quantize_static(
        str(ready),
        str(out),
        Reader(images.transpose(0, 3, 1, 2)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return out


def peer_tflite(folder: Path) -> tuple[Path, dict[str, float]]:
    """The same torch model through litert-torch and ai-edge-quantizer, and how long their steps took."""
    out = folder / "peer.tflite"
    command = [str(litert()), "-m", "benchmarks.peers_convert", str(out)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return out, json.loads(done.stdout.splitlines()[-1])


def accuracy(run: Callable[[Images], Images], images: Images, labels: npt.NDArray[np.uint8]) -> float:
    """Top-1 in %, one image a run."""
    return float(100 * np.mean([run(x[None]).argmax() == y for x, y in zip(images, labels, strict=True)]))


def fastest(work: Callable[[], object], times: int = 5) -> float:
    """Least seconds of a few runs."""
    return min(_seconds(work) for _ in range(times))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(bundle: Path) -> None:
    """Ours against theirs for each runtime: ms, their ratio in turns, top-1 in %, bytes."""
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    places = {artifact["name"]: bundle / artifact["path"] for artifact in manifest["artifacts"]}
    test, labels = cifar10("cifar10_test2000.npz")
    image = test[:1]
    with tempfile.TemporaryDirectory() as name:
        theirs_onnx = peer_onnx(Path(name), cifar10("cifar10_calib.npz")[0][:512])
        theirs_tflite, seconds = peer_tflite(Path(name))
        rows = []
        for kind, ours, theirs, runner in (
            ("ONNX against quantize_static", places["onnxruntime"], theirs_onnx, onnx_runner),
            ("TFLite against litert-torch + ai-edge-quantizer", places["tflite"], theirs_tflite, tflite_runner),
        ):
            a, b = runner(ours), runner(theirs)
            mine, other, ratio = interleaved(lambda a=a: a(image), lambda b=b: b(image))  # type: ignore[misc]
            top1 = [f"{accuracy(run, test, labels):.2f}" for run in (a, b)]
            sizes = [path.stat().st_size for path in (ours, theirs)]
            rows.append([kind, f"{mine:.3f}", f"{other:.3f}", f"{ratio:.3f}", *top1, *sizes])
    print(machine("onnxruntime", "ai-edge-litert"), "\n")
    sides = [f"{what}, {who}" for what in ("ms", "top-1 %", "bytes") for who in ("ours", "theirs")]
    print(table(["int8 ResNet-20", *sides[:2], "ratio", *sides[2:]], rows), "\n")

    graph = load(places["onnxruntime"])
    emit = fastest(lambda: emit_tflite(graph, channels_last=True))
    read = fastest(lambda: emit_tflite(load(places["onnxruntime"]), channels_last=True))
    theirs = seconds["convert"] + seconds["quantize"]
    whole = fastest(lambda: load(recipe().model, base=RECIPE.parent), 1)
    lines = [
        ["ours: quantized graph -> TFLite file", f"{emit:.3f}", f"{emit / theirs:.3f}"],
        ["ours: quantized ONNX file -> TFLite file", f"{read:.3f}", f"{read / theirs:.3f}"],
        ["ours, once for both runtimes: torch -> float ONNX graph (torch.onnx.export)", f"{whole:.3f}", ""],
        ["theirs: torch -> float TFLite file", f"{seconds['convert']:.3f}", ""],
        ["theirs: float TFLite file -> int8, calibration left out", f"{seconds['quantize']:.3f}", ""],
    ]
    print(table(["conversion, imports left out", "s", "of theirs in all"], lines))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/resnet20"))
