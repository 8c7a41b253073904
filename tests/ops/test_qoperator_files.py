"""Files that ONNX Runtime's own quantizer wrote in QOperator form: integers from end to end in TFLite too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.loading import from_proto
from tests.ops.pair import Array, run_onnx, run_tflite

RNG = np.random.default_rng(43)
NET = """<ir_version: 8, opset_import: ["": 13]> g (float[N,3,16,16] x) => (float[N,5] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1, b1)  r = Relu(a)  b = Conv<pads=[1,1,1,1]>(r, w2)  s = Add(b, r)
    l = LeakyRelu<alpha=0.1>(s)  c = Concat<axis=1>(l, r)  m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(c)
    v = AveragePool<kernel_shape=[2,2], strides=[2,2]>(m)  i = Sigmoid(v)  u = Mul(v, i)  p = GlobalAveragePool(u)
    f = Flatten(p)  z = Gemm(f, w3, b3)  y = Softmax(z) }"""
WEIGHTS = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "w3": (16, 5), "b3": (5,)}


def noise(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def quantized(folder: Path, weights: str, activations: str) -> onnx.ModelProto:
    from onnxruntime import quantization as ort

    class Reader(ort.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[dict[str, Any]] = iter([{"x": noise(1, 3, 16, 16)} for _ in range(8)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    net = onnx.parser.parse_model(NET)
    for name, shape in WEIGHTS.items():
        net.graph.initializer.append(onnx.numpy_helper.from_array(noise(*shape) * np.float32(0.3), name))
    onnx.save(net, folder / "float.onnx")
    types = {"int8": ort.QuantType.QInt8, "uint8": ort.QuantType.QUInt8}
    logging.disable(logging.CRITICAL)
    try:
        ort.quantize_static(
            folder / "float.onnx", folder / "integers.onnx", Reader(), quant_format=ort.QuantFormat.QOperator,
            weight_type=types[weights], activation_type=types[activations], per_channel=weights == "int8",
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(folder / "integers.onnx")


@pytest.mark.parametrize(("weights", "activations"), [("int8", "uint8"), ("int8", "int8"), ("uint8", "uint8")])
def test_file(tmp_path: Path, weights: str, activations: str) -> None:
    model = quantized(tmp_path, weights, activations)
    assert {"QLinearConv", "QGemm", "QLinearAdd"} <= {n.op_type for n in model.graph.node}
    data = emit_tflite(from_proto(model))
    x = noise(16, 3, 16, 16)
    apart = np.abs(run_tflite(data, {"x": x})["y"] - run_onnx(model, {"x": x})[0])
    assert apart.max() <= 4 / 256
    codes = [o.code for o in read_tflite(data).operators]
    assert not {"DIV", "CAST", "ROUND"}.intersection(codes), "no arithmetic in place of integer kernels"
    if weights == "int8":  # uint8 weights off centre have no integer kernel
        assert codes.count("DEQUANTIZE") == 3, "the average, the gate, the result"


DYNAMIC = {
    "DynamicQuantizeMatMul": ("a, b, bs, bz, c", 1e-5),
    "MatMulIntegerToFloat": ("q, b, qs, bs, qz, bz, c", 1e-5),
}


@pytest.mark.parametrize("op", DYNAMIC)
def test_dynamic(op: str) -> None:
    wires, tolerance = DYNAMIC[op]
    arrays = {
        "b": RNG.integers(-128, 128, (32, 6)).astype(np.int8), "bs": RNG.uniform(0.001, 0.01, 6).astype(np.float32),
        "bz": np.zeros(6, np.int8), "c": noise(6), "qs": np.float32([0.02]), "qz": np.uint8([7]),
    }  # fmt: skip
    feeds = {"a": noise(4, 32)} if "a" in wires.split(", ") else {"q": RNG.integers(0, 256, (4, 32)).astype(np.uint8)}
    kind = "float" if "a" in feeds else "uint8"
    text = f'<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> g ({kind}[N,32] {next(iter(feeds))}) '
    model = onnx.parser.parse_model(text + f"=> (float[N,6] y) {{ y = com.microsoft.{op}({wires}) }}")
    for name in wires.split(", "):
        if name in arrays:
            model.graph.initializer.append(onnx.numpy_helper.from_array(arrays[name], name))
    found = run_tflite(emit_tflite(from_proto(model)), feeds)["y"]
    np.testing.assert_allclose(found, run_onnx(model, feeds)[0], tolerance, tolerance)


@pytest.mark.parametrize("last", [0, 1])
def test_pool_of_channels_last(last: int) -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> g (uint8[N,6,6,6] x) => (uint8[N,A,B,C] y)
        { y = com.microsoft.QLinearGlobalAveragePool<channels_last=LAST>(x, s, z, t, z) }""".replace("LAST", str(last))
    model = onnx.parser.parse_model(text)
    for name, array in {"s": np.float32(0.1), "t": np.float32(0.05), "z": np.uint8(100)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    x = RNG.integers(0, 256, (3, 6, 6, 6)).astype(np.uint8)
    found = run_tflite(emit_tflite(from_proto(model)), {"x": x})["y"]
    expected = run_onnx(model, {"x": x})[0]
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
