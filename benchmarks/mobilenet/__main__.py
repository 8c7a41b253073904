"""A trained MobileNetV2 in int8 and int4: per channel, per tensor, and per tensor after equalization.

python -m benchmarks.mobilenet [--cases "W8A8 per channel" …]

Needs out/weights.pt (python -m benchmarks.mobilenet.train). 520 calibration images, 2,000 test images, real files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.low_bits import batches, score
from benchmarks.measure import machine, table
from benchmarks.mobilenet.train import OUT, build
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.loading import load
from exporter.packing import onnx_bytes
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantization import quantize
from exporter.quantize import apply
from exporter.recipe import Quantize

CASES = {
    "W8A8 per channel": Quantize(),
    "W8A8 per tensor": Quantize(granularity="tensor"),
    "W8A8 per tensor, equalize": Quantize(granularity="tensor", passes=["equalize"]),
    "W8A8 per tensor, equalize, gptq": Quantize(granularity="tensor", passes=["equalize"], rounder="gptq"),
    "W4A8 per channel, nearest": Quantize(weights="int4", rounder="nearest"),
    "W4A8 per channel, adaround": Quantize(weights="int4", rounder="adaround"),
    "W4A8 per channel, gptq (default)": Quantize(weights="int4"),
    "W3A8 per channel, gptq (default)": Quantize(weights="int3"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    given = parser.parse_args()
    if not (OUT / "weights.pt").exists():
        sys.exit("no weights: python -m benchmarks.mobilenet.train")
    net = build()
    net.load_state_dict(torch.load(OUT / "weights.pt", weights_only=True))
    example = {"image": np.zeros((2, 3, 32, 32), np.float32)}
    model = prepare(load(net.eval(), example_inputs=example), INT8_PASSES)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        onnx, tflite = Path(name, "model.onnx"), Path(name, "model.tflite")
        onnx.write_bytes(onnx_bytes(emit_onnx(model)))
        real = score(onnx)
        rows.append(["float", f"{real:.2f}", "", "", onnx.stat().st_size, ""])
        for title in given.cases:
            found = quantize(model, CASES[title], batches)
            quantized, plan = apply(found.model, found.rounded), found.rounded.plan
            onnx.write_bytes(onnx_bytes(emit_onnx(quantized, plan), lean=True))
            tflite.write_bytes(emit_tflite(quantized, plan, channels_last=True))
            scores = score(onnx), score(tflite)
            sizes = onnx.stat().st_size, tflite.stat().st_size
            print(title, *scores, file=sys.stderr, flush=True)
            rows.append([title, *(f"{s:.2f}" for s in scores), f"{real - min(scores):.2f}", *sizes])
    print(table(["", "top-1, ONNX Runtime", "top-1, TFLite", "drop", "ONNX bytes", "TFLite bytes"], rows))
    print(f"\n{machine('onnxruntime', 'ai-edge-litert', 'torch')}")


if __name__ == "__main__":
    main()
