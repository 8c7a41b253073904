"""One operator at a time in int16: both files, the same inputs, how many of 65,536 steps apart."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.ops import OPS, Float
from exporter.packing import onnx_bytes
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantize import apply, make_plan
from exporter.recipe import Quantize
from tests.conformance import test_int8_ops as int8
from tests.quantize.graphs import model_of, run, stats_of

# Moves the input on as it is: a Conv before a Sigmoid would multiply its own last step
LEAD = "a = MaxPool<kernel_shape=[1,1]>(x) "
_SKIPPED = {"relu", "relu6", "elu", "sub"}  # written below, or in float
_CASES = {name: body.replace(int8.LEAD, LEAD) for name, (body, _) in int8.CASES.items() if name not in _SKIPPED}
CASES = _CASES | {
    "sub": "{ " + LEAD + "v = LeakyRelu<alpha=0.5>(a) y = Sub(a, v) }",
    "relu alone": "{ " + LEAD + "p = Mul(a, a) q = Relu(a) y = Add(p, q) }",
    "relu6 alone": "{ " + LEAD + "p = Mul(a, a) q = Clip(a, zero, six) y = Add(p, q) }",
    "conv, relu": "{ " + int8.LEAD + "y = Relu(a) }",
    "conv, relu6": "{ " + int8.LEAD + "y = Clip(a, zero, six) }",
    "gemm, relu": "{ " + LEAD + "f = Flatten(a) h = Gemm(f, m, c5) y = Relu(h) }",
    "matmul of a stack": "{ " + LEAD + "y = MatMul(a, stack) }",
    "average pool, padded": "{ " + LEAD + "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(a) }",
    "global max pool": "{ " + LEAD + "y = GlobalMaxPool(a) }",
    "reduce mean": "{ " + LEAD + "y = ReduceMean(a, axis) }",
    "resize linear": "{ " + LEAD + 'y = Resize<mode="linear">(a, , scales) }',
    "split": "{ " + LEAD + "p, q = Split<axis=1, num_outputs=2>(a) y = Mul(p, q) }",
    "space to depth": "{ " + LEAD + "y = SpaceToDepth<blocksize=2>(a) }",
    "pad with a number": "{ " + LEAD + "y = Pad(a, edges, half) }",
    "pad with reflections": "{ " + LEAD + 'y = Pad<mode="reflect">(a, edges) }',
    "tile": "{ " + LEAD + "y = Tile(a, twice) }",
    "gather": "{ " + LEAD + "y = Gather<axis=1>(a, picked) }",
    "gather nd": "{ " + LEAD + "y = GatherND(a, places) }",
    "trilu": "{ " + LEAD + "y = Trilu(a) }",
    "transposed conv": "{ " + LEAD + "y = ConvTranspose<strides=[2,2]>(a, up) }",
}  # fmt: skip
# tables and products of the kernels, and finer steps behind them than before them; one step everywhere else
STEPS = {"tanh": 4, "softmax": 3, "gelu": 2, "gelu by tanh": 2, "mul": 2, "sub": 3, "conv, relu6": 2}
ARRAYS = int8.ARRAYS | {
    "c5": int8.noise(5),
    "stack": int8.noise(8, 8, 8),
    "half": np.float32(0.5),
    "edges": np.array([0, 0, 2, 1, 0, 0, 1, 2], np.int64),
    "thrice": np.float32([1, 1, 3, 3]),
    "twice": np.array([1, 2, 1, 1], np.int64),
    "picked": np.array([3, 1, 1], np.int64),
    "places": np.array([[0], [2]], np.int64),
    "up": int8.noise(8, 4, 2, 2),
}
# the kernel would round the places of its elements
IN_FLOAT = {
    "resize linear, by three": "{ " + LEAD + 'y = Resize<mode="linear">(a, , thrice) }',
    "resize linear, corners": "{ " + LEAD + 'y = Resize<mode="linear", coordinate_transformation_mode="align_corners">'
    "(a, , scales) }",
}
RANKS = {"flatten and gemm": 2, "gemm, relu": 2, "reduce max": 3}
_SAME = ("Identity", "Dropout", "Reshape", "Squeeze", "Unsqueeze", "CenterCropPad", "Expand")  # views, or written so


@pytest.mark.parametrize("name", [*CASES, *IN_FLOAT])
def test_operator(name: str) -> None:
    body = (CASES | IN_FLOAT)[name]
    words = set(body.replace(",", " ").replace("(", " ").replace(")", " ").split())
    head = int8.IMAGE.replace("[N,A,B,C]", "[N,A,B,C]"[: 2 * RANKS.get(name, 4)] + "]")
    model = prepare(model_of(head + body, **{k: a for k, a in ARRAYS.items() if k in words}), INT8_PASSES)
    feeds = {"x": np.random.default_rng(8).standard_normal((8, 8, 8, 8)).astype(np.float32)}
    plan = make_plan(model, stats_of(model, feeds), Quantize(activations="int16"))
    assert not plan.float_nodes
    quantized = apply(model, plan)
    emitted = emit_onnx(quantized, plan)
    onnx.checker.check_model(onnx.load_from_string(onnx_bytes(emitted)), full_check=True)
    expected = run(emitted, feeds)["y"]
    data = emit_tflite(quantized, plan)
    actual = Interpreter(model_content=data, num_threads=1).get_signature_runner()(**feeds)["y"]
    apart = np.abs(actual - expected) / plan.tensors["y"].qparams.scale
    assert apart.max() <= STEPS.get(name, 1) + 0.01, f"{(apart > 0.5).mean():.2%} of the values differ"
    file = read_tflite(data)
    assert ([o.code for o in file.operators].count("QUANTIZE") == 1) == (name in CASES), "integers from end to end"
    kinds = {t.dtype for t in file.tensors if t.scale.size and t.data is None}
    assert kinds == {"int16"}


def test_every_operator_that_claims_a_kernel_has_a_case() -> None:
    claimed = {name for name, row in OPS.items() if not isinstance(row.rule(16), Float)}
    assert {name for name in claimed if not any(f"{name}(" in b or f"{name}<" in b for b in CASES.values())} == set(
        _SAME
    )
