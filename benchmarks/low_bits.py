"""ResNet-20 and ResNet-32 with weights of 8 to 1 bits: accuracy, bytes and latency of the real files, and each rounder.

python -m benchmarks.low_bits accuracy [--nets resnet20 resnet32] [--widths int8 int4 int3 int2]
python -m benchmarks.low_bits rounders [--nets resnet20] [--widths int4 int3 int2] [--rounders nearest mse …]
python -m benchmarks.low_bits latency  [--nets resnet20 resnet32] [--widths int4 int3 int2]
python -m benchmarks.low_bits activations [--nets resnet20] [--widths int8 int4]

520 calibration images, int8 activations, all layers, no training; 2,000 test images. Everything else is the default.
rounders: top-1 of the ONNX / TFLite file; nats: divergence of the ONNX file from the float model, mean over the images.
s: wall time of calibration, planning and rounding; CPU s: of all threads, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from benchmarks.measure import cifar10, data, interleaved, machine, table
from benchmarks.runners import onnx_runner, tflite_runner
from exporter import packing
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.loading import load
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantization import quantize
from exporter.quantize import apply
from exporter.recipe import InputSpec, Model, Quantize
from exporter.reference import divergence
from exporter.rounding import WEIGHT_ROUNDERS

__all__ = ["files", "score"]

NETS = {"resnet20": "resnet20-12fca82f.th", "resnet32": "resnet32-d509ac18.th"}
ROUNDERS = ("nearest", "mse", "hqq", "adaround", "gptq", "brecq")
HERE = Path(__file__).resolve().parent


@cache
def prepared(net: str) -> ir.Model:
    """The float graph."""
    source, checkpoint = f"../tests/nets/resnet.py:{net}", str(data(NETS[net]))
    model = Model(source, checkpoint, {"image": InputSpec(["batch", 3, 32, 32])})
    return prepare(load(model, base=HERE), INT8_PASSES)


def batches() -> Iterator[Mapping[str, Any]]:
    """The 520 calibration images."""
    images = np.ascontiguousarray(cifar10("cifar10_calib.npz")[0].transpose(0, 3, 1, 2))
    for start in range(0, len(images), 8):
        yield {"image": images[start : start + 8]}


def files(net: str, folder: Path, wishes: Quantize, *, smallest: bool = False) -> tuple[Path, Path, str]:
    """model.onnx, model.tflite and the seconds that calibration, planning and rounding took: wall / CPU."""
    model = prepared(net)
    start, busy = time.perf_counter(), time.process_time()
    found = quantize(model, wishes, batches)
    seconds = f"{time.perf_counter() - start:.0f} / {time.process_time() - busy:.0f}"
    quantized, plan = apply(found.model, found.rounded), found.rounded.plan
    folder.mkdir(parents=True, exist_ok=True)
    onnx, tflite = folder / "model.onnx", folder / "model.tflite"
    onnx.write_bytes(packing.onnx_bytes(emit_onnx(quantized, plan), lean=True))
    tflite.write_bytes(emit_tflite(quantized, plan, channels_last=True, smallest=smallest))
    return onnx, tflite, seconds


def classes(path: Path) -> np.ndarray:
    """The class of each of the 2,000 test images."""
    run = _runner(path)
    return np.array([run(image[None]).argmax() for image in cifar10("cifar10_test2000.npz")[0]])


def score(path: Path) -> float:
    """Top-1 on the 2,000 test images, in per cent."""
    return float(100 * np.mean(classes(path) == cifar10("cifar10_test2000.npz")[1]))


def accuracy(nets: list[str], widths: list[str], folder: Path) -> None:
    """Top-1 in % of both files at each width, their bytes, and seconds to make them."""
    rows = []
    for net in nets:
        raw = folder / "float.onnx"
        raw.write_bytes(ir.to_proto(emit_onnx(prepared(net))).SerializeToString())
        rows.append([net, "float", f"{score(raw):.2f}", "", raw.stat().st_size, "", ""])
        for width in widths:
            onnx, tflite, seconds = files(net, folder / net / width, Quantize(weights=width))  # type: ignore[arg-type]
            scores = f"{score(onnx):.2f}", f"{score(tflite):.2f}"
            print(net, width, *scores, seconds, file=sys.stderr, flush=True)
            rows.append([net, width, *scores, onnx.stat().st_size, tflite.stat().st_size, seconds])
    head = ["net", "weights", "top-1, ONNX Runtime", "top-1, TFLite", "ONNX bytes", "TFLite bytes", "s / CPU s"]
    print(table(head, rows))


def outputs(path: Path) -> np.ndarray:
    """f64[2000,10]: class scores of the test images."""
    run = _runner(path)
    return np.concatenate([run(image[None]) for image in cifar10("cifar10_test2000.npz")[0]]).astype(np.float64)


def rounders(nets: list[str], widths: list[str], folder: Path, chosen: list[str]) -> None:
    """Top-1 in % of both files by rounder and width, divergence from float in nats, and seconds to make them."""
    rows = []
    for net in nets:
        raw = folder / f"{net}.onnx"
        raw.write_bytes(ir.to_proto(emit_onnx(prepared(net))).SerializeToString())
        exact = outputs(raw)
        pairs = [(name, more) for name in chosen for more in (False, True) if not more or name in WEIGHT_ROUNDERS]
        for rounder, corrected in pairs:
            says = f"{rounder}, bias corrected" if corrected else rounder
            row: list[object] = [net, says]
            for width in widths:
                wishes = Quantize(weights=width, rounder=rounder, bias_correction=corrected)  # type: ignore[arg-type]
                onnx, tflite, seconds = files(net, folder / net / says / width, wishes)
                far = divergence(exact, outputs(onnx), classes=True)
                row += [f"{score(onnx):.2f} / {score(tflite):.2f}", f"{far:.4f}", seconds]
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    head = ["net", "rounder", *(name for width in widths for name in (width, "nats", "s / CPU s"))]
    print(table(head, rows))


def latency(nets: list[str], widths: list[str], folder: Path) -> None:
    """Each width against int8 of the same net, in turns."""
    image = cifar10("cifar10_test2000.npz")[0][:1]
    rows = []
    for net in nets:
        base = files(net, folder / net / "int8", Quantize(rounder="nearest"))[:2]
        for width in widths:
            for prefer in ("speed", "size"):
                place, wishes = folder / net / f"{width}-{prefer}", Quantize(weights=width, rounder="mse")  # type: ignore[arg-type]
                made = files(net, place, wishes, smallest=prefer == "size")[:2]
                for eight, few, runner in zip(base, made, (onnx_runner, tflite_runner), strict=True):
                    if prefer == "size" and few.suffix == ".onnx":
                        continue  # the same file
                    ms8, ms, ratio = interleaved(*[_call(runner(p), image) for p in (eight, few)])
                    sizes = eight.stat().st_size, few.stat().st_size
                    runtime = "ONNX Runtime" if few.suffix == ".onnx" else f"TFLite, prefer {prefer}"
                    print(net, width, runtime, 1 / ratio, file=sys.stderr, flush=True)
                    rows.append([net, width, runtime, f"{ms8:.3f}", f"{ms:.3f}", f"{1 / ratio:.2f}",
                                 sizes[1], f"{sizes[1] / sizes[0]:.3f}"])  # fmt: skip
    head = ["net", "weights", "runtime", "ms, int8", "ms", "latency / int8", "bytes", "bytes / int8"]
    print(table(head, rows))


def activations(nets: list[str], widths: list[str], folder: Path) -> None:
    """int8 and int16 activations: top-1, agreement of the two files and with float, latency against float in turns."""
    images, labels = cifar10("cifar10_test2000.npz")
    rows = []
    for net in nets:
        bare = {"onnx": folder / "float.onnx", "tflite": folder / "float.tflite"}
        bare["onnx"].write_bytes(ir.to_proto(emit_onnx(prepared(net))).SerializeToString())
        bare["tflite"].write_bytes(emit_tflite(prepared(net), channels_last=True))
        real = classes(bare["onnx"])
        rows.append([net, "float", "float", *[f"{100 * np.mean(real == labels):.2f}"] * 2, "", "", "", "1.00", "1.00"])
        for width, read in [(w, a) for w in widths for a in ("int8", "int16")]:
            onnx, tflite, _ = files(net, folder / net / f"{width}-{read}", Quantize(width, read))  # type: ignore[arg-type]
            found = [classes(onnx), classes(tflite)]
            tops = [f"{100 * np.mean(each == labels):.2f}" for each in found]
            same = f"{100 * np.mean(found[0] == found[1]):.2f}"
            close = [f"{100 * np.mean(each == real):.2f}" for each in found]
            times = [f"{_against(bare[made.suffix[1:]], made, images[:1]):.2f}" for made in (onnx, tflite)]
            print(net, width, read, *tops, same, *close, *times, file=sys.stderr, flush=True)
            rows.append([net, width, read, *tops, same, *close, *times])
    both = ("ONNX Runtime", "TFLite")
    said = [f"{what}, {runtime}" for what in ("top-1", "class as float", "latency / float") for runtime in both]
    head = ["net", "weights", "activations", *said[:2], "same class", *said[2:]]
    print(table(head, rows))


def _against(plain: Path, made: Path, image: Any) -> float:
    """Latency of a file over that of the float one, in turns."""
    return 1 / interleaved(*[_call(_runner(p), image) for p in (plain, made)], rounds=40, calls=5, warmup=5)[2]


def _runner(path: Path) -> Any:
    return onnx_runner(path) if path.suffix == ".onnx" else tflite_runner(path)


def _call(run: Any, image: Any) -> Any:
    return lambda: run(image)


def main() -> None:
    """One of the four tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["accuracy", "rounders", "latency", "activations"])
    parser.add_argument("--nets", nargs="+", choices=list(NETS))
    parser.add_argument("--widths", nargs="+")
    parser.add_argument("--rounders", nargs="+", choices=ROUNDERS, default=list(ROUNDERS))
    given = parser.parse_args()
    nets = given.nets or (["resnet20"] if given.what in {"rounders", "activations"} else list(NETS))
    few = ["int4"] if given.what == "activations" else ["int4", "int3", "int2"]
    widths = given.widths or (["int8"] if given.what in {"accuracy", "activations"} else []) + few
    with tempfile.TemporaryDirectory() as name:
        if given.what == "rounders":
            rounders(nets, widths, Path(name), given.rounders)
        else:
            {"accuracy": accuracy, "latency": latency, "activations": activations}[given.what](nets, widths, Path(name))
    print(f"\n{machine('onnxruntime', 'ai-edge-litert', 'numpy')}")


if __name__ == "__main__":
    main()
