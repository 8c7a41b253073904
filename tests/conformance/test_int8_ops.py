"""One operator at a time in int8: both files, the same inputs, how many steps apart."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantize import apply, make_plan
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

IMAGE = "main (float[N,8,8,8] x) => (float[N,A,B,C] y) "
LEAD = "a = Conv<pads=[1,1,1,1]>(x, w, b) "  # an anchor: planning keeps a lone operator in float

# body, steps allowed; exact where XNNPACK and ONNX Runtime round alike
CASES = {
    "conv": ("{ y = Conv<pads=[1,1,1,1]>(x, w, b) }", 0),
    "conv, stride 2, same upper": ('{ y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w, b) }', 0),
    "conv, dilated, odd pads": ("{ y = Conv<pads=[2,1,0,3], dilations=[2,1]>(x, w, b) }", 0),
    "conv, 4 groups": ("{ y = Conv<pads=[1,1,1,1], group=4>(x, g, b) }", 0),
    "depthwise": ("{ y = Conv<pads=[1,1,1,1], group=8>(x, d, b) }", 0),
    "depthwise, multiplier 2": ("{ y = Conv<pads=[1,1,1,1], group=8>(x, d2) }", 0),
    "relu": ("{ " + LEAD + "y = Relu(a) }", 0),
    "relu6": ("{ " + LEAD + "y = Clip(a, zero, six) }", 0),
    "leaky relu": ("{ " + LEAD + "y = LeakyRelu<alpha=0.1>(a) }", 1),
    "add": ("{ " + LEAD + "y = Add(a, x) }", 0),
    "add, relu": ("{ " + LEAD + "s = Add(x, a) y = Relu(s) }", 0),
    "add a constant": ("{ " + LEAD + "y = Add(a, six) }", 1),
    "sub": ("{ " + LEAD + "y = Sub(a, x) }", 1),
    "mul": ("{ " + LEAD + "y = Mul(a, x) }", 0),
    "mul by each channel": ("{ " + LEAD + "p = GlobalAveragePool(a) y = Mul(a, p) }", 1),
    "max pool": ("{ " + LEAD + "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(a) }", 0),
    "average pool": ("{ " + LEAD + "y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a) }", 0),
    "global average pool": ("{ " + LEAD + "y = GlobalAveragePool(a) }", 0),
    "sigmoid": ("{ " + LEAD + "y = Sigmoid(a) }", 1),
    "tanh": ("{ " + LEAD + "y = Tanh(a) }", 1),
    "silu": ("{ " + LEAD + "s = Sigmoid(a) y = Mul(a, s) }", 1),
    "gelu": ("{ " + LEAD + "y = Gelu(a) }", 0),
    "gelu by tanh": ("{ " + LEAD + 'y = Gelu<approximate="tanh">(a) }', 0),
    "elu": ("{ " + LEAD + "y = Elu(a) }", 0),
    "reduce max": ("{ " + LEAD + "y = ReduceMax<keepdims=0>(a, axis) }", 0),
    "reduce min": ("{ " + LEAD + "y = ReduceMin(a, axis) }", 0),
    "hard swish": ("{ " + LEAD + "y = HardSwish(a) }", 1),
    "concat": ("{ " + LEAD + "y = Concat<axis=1>(a, x) }", 0),
    "slice": ("{ " + LEAD + "y = Slice(a, one, five, axis) }", 0),
    "pad channels": ("{ " + LEAD + "y = Pad(a, pads) }", 0),
    "transpose": ("{ " + LEAD + "y = Transpose<perm=[0,3,1,2]>(a) }", 0),
    "resize nearest": ("{ " + LEAD + 'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", '
                       'nearest_mode="floor">(a, , scales) }', 0),
    "depth to space": ("{ " + LEAD + "y = DepthToSpace<blocksize=2>(a) }", 0),
    "flatten and gemm": ("{ " + LEAD + "f = Flatten(a) y = Gemm(f, m) }", 0),
    "matmul": ("{ " + LEAD + "y = MatMul(a, s8) }", 0),
    "matmul of two activations": ("{ " + LEAD + "y = MatMul(a, x) }", 1),
    "softmax": ("{ " + LEAD + "y = Softmax<axis=-1>(a) }", 1),
}  # fmt: skip

ARRAYS = {
    "w": noise(8, 8, 3, 3),
    "g": noise(8, 2, 3, 3),
    "d": noise(8, 1, 3, 3),
    "d2": noise(16, 1, 3, 3),
    "b": noise(8),
    "m": noise(512, 5),
    "s8": noise(8, 8),
    "zero": np.float32(0),
    "six": np.float32(6),
    "one": np.array([1], np.int64),
    "five": np.array([5], np.int64),
    "axis": np.array([1], np.int64),
    "pads": np.array([0, 2, 0, 0, 0, 2, 0, 0], np.int64),
    "scales": np.array([1, 1, 2, 2], np.float32),
}
RANK_2 = {"flatten and gemm"}
RANK_3 = {"reduce max"}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    body, steps = CASES[name]
    words = set(body.replace(",", " ").replace("(", " ").replace(")", " ").split())
    head = IMAGE.replace("[N,A,B,C]", "[N,A]" if name in RANK_2 else "[N,A,B]") if name in RANK_2 | RANK_3 else IMAGE
    model = prepare(model_of(head + body, **{k: a for k, a in ARRAYS.items() if k in words}), INT8_PASSES)
    feeds = {"x": np.random.default_rng(8).standard_normal((32, 8, 8, 8)).astype(np.float32)}
    plan = make_plan(model, stats_of(model, feeds))
    assert not plan.float_nodes
    quantized = apply(model, plan)
    expected = run(emit_onnx(quantized), feeds)["y"]
    data = emit_tflite(quantized)
    actual = Interpreter(model_content=data, num_threads=1).get_signature_runner()(**feeds)["y"]
    scale = float(plan.tensors["y"].qparams.scale)
    apart = np.abs(np.rint(actual / scale) - np.rint(expected / scale))
    assert apart.max() <= steps, f"{(apart > 0).mean():.2%} of the values differ"
    codes = [o.code for o in read_tflite(data).operators]
    assert codes.count("QUANTIZE") == 1 + len(plan.borders), "integers from end to end"
    assert codes.count("DEQUANTIZE") == 1
