"""Every width in a TFLite file: the type of its weights, whether XNNPACK takes the operator, whether numbers hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter import grid
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.ops.program import mark
from exporter.quantize import apply, make_plan
from exporter.recipe import Quantize, Weights
from exporter.rounding import round_weights
from exporter.types import Rounded
from tests.emit.test_low_bits_onnx import convs, gemms, linear, with_real_weights
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

WIDTHS = [name for name in get_args(Weights) if not name.startswith("float")]
TABLE = "main (int64[N,5] ids) => (float[N,5,64] y) { y = Gather(t, ids) }"


def lite(data: bytes, feeds: Mapping[str, np.ndarray]) -> tuple[np.ndarray, bool]:
    """The output, and whether one XNNPACK delegate runs everything."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    found = interpreter.get_signature_runner()(**feeds)["y"]
    own = [op for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]
    left = len(own) - len(read_tflite(data).operators)
    return found, left == 0


def weight_types(data: bytes) -> dict[str, str]:
    """By operator, in order: the type of its weights."""
    file = read_tflite(data)
    found = {}
    for i, operator in enumerate(file.operators):
        if operator.code in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP", "GATHER"}:
            index = operator.inputs[0 if operator.code == "GATHER" else 1]
            found[f"{operator.code} {i}"] = file.tensors[index].dtype
    return found


def fits(low: int, high: int) -> str:
    return "int2" if low >= -2 and high <= 1 else "int4" if low >= -8 and high <= 7 else "int8"


def narrowest(rounded: Rounded, name: str) -> str:
    q = rounded.plan.tensors[name].qparams
    moved = grid.centred(rounded.integers[name], q)
    return fits(int(moved.min()), int(moved.max())) if q.scheme.bits < 8 else "int8"


@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_integer_graphs(width, smallest):
    model, feeds = convs(), {"x": noise(4, 8, 8, 8)}
    rounded = round_weights(model, make_plan(model, stats_of(model, feeds), Quantize(weights=width, rounder="mse")))
    quantized = apply(model, rounded)
    expected = run(emit_onnx(quantized, rounded.plan), feeds)["y"]
    data = emit_tflite(quantized, rounded.plan, smallest=smallest)
    actual = Interpreter(model_content=data, num_threads=1).get_signature_runner()(**feeds)["y"]
    step = float(rounded.plan.tensors["y"].qparams.scale)
    assert np.abs(np.rint((actual - expected) / step)).max() <= (0 if not smallest else 8)
    types = list(weight_types(data).values())
    assert types[3] == narrowest(rounded, "m")
    for name, kind in zip("wvu", types, strict=False):
        narrow = narrowest(rounded, name)
        assert kind == ("int8" if not smallest or narrow == "int8" else "int4"), "int2 convolutions do not load"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("net", [linear, gemms], ids=["matmul", "gemm"])
@pytest.mark.parametrize("granularity", ["channel", "tensor", 16, 32, 64])
def test_dynamic_linear_layers(width, net, granularity):
    model = net()
    feeds = {"x": noise(5, 128) if net is gemms else noise(2, 5, 128)}
    model.graph.inputs[0].shape = ir.Shape([5, 128] if net is gemms else [2, 5, 128])
    wish = Quantize(weights=width, activations="dynamic", granularity=granularity, rounder="mse")
    rounded = round_weights(model, make_plan(model, {}, wish))
    expected = run(with_real_weights(model, rounded), feeds)["y"]
    data = emit_tflite(apply(model, rounded), rounded.plan)
    actual, delegated = lite(data, feeds)
    assert np.abs(actual - expected).max() < 0.05 * np.abs(expected).max()
    types = set(weight_types(data).values())
    narrow = {narrowest(rounded, name) for name in rounded.integers}
    if granularity == 16 or (granularity in {32, 64} and "int8" in narrow):
        assert "float32" in types, "no kernel has such groups"
    elif granularity in {32, 64}:
        assert types == {"int4"}
    else:
        assert types <= narrow
    assert delegated or "int2" in types


def test_operators_are_of_a_version_that_older_runtimes_refuse():
    """tflite-runtime 2.14 knows FULLY_CONNECTED 11 and gives wrong numbers for per-channel hybrid and int4 blocks."""
    model = gemms()
    for granularity, width, version in (("channel", "int8", 12), (32, "int4", 13), ("tensor", "int8", 9)):
        wish = Quantize(weights=width, activations="dynamic", granularity=granularity, rounder="nearest")
        plan = make_plan(model, {}, wish)
        found = {o.version for o in read_tflite(emit_tflite(apply(model, plan), plan)).operators if "FULLY" in o.code}
        assert found == {version}


@pytest.mark.parametrize("width", ["int8", "int5", "int4", "int3", "nf4"])
@pytest.mark.parametrize("net", [convs, linear, gemms], ids=["conv", "matmul", "gemm"])
def test_float_activations_read_int8_weights_that_are_folded(width, net):
    model = net()
    feeds = {"x": noise(4, 8, 8, 8) if net is convs else noise(5, 128) if net is gemms else noise(2, 5, 128)}
    model.graph.inputs[0].shape = ir.Shape(feeds["x"].shape)
    rounded = round_weights(model, make_plan(model, {}, Quantize(weights=width, activations="float")))
    expected = run(with_real_weights(model, rounded), feeds)["y"]
    data = emit_tflite(apply(model, rounded), rounded.plan)
    actual, delegated = lite(data, feeds)
    np.testing.assert_allclose(actual, expected, atol=2e-5 * np.abs(expected).max())
    assert delegated or net is convs
    stored = [t for t in read_tflite(data).tensors if t.data is not None and t.scale.size and t.data.ndim > 1]
    assert {t.dtype for t in stored} == {"int8"}, "narrower ones are not folded"
    assert sum(t.data.size for t in stored) == sum(i.size for i in rounded.integers.values())


@pytest.mark.parametrize("width", ["int8", "int4", "int2"])
@pytest.mark.parametrize("granularity", ["channel", "tensor", 16, 32, 64])
def test_tables(width, granularity):
    model = model_of(TABLE, t=noise(100, 64))
    feeds = {"ids": np.array([[0, 99, 5, 3, -1], [7, 7, 64, 1, 2]])}
    plan = make_plan(model, {}, Quantize(embeddings=width, granularity=granularity, activations="float"))
    rounded = round_weights(model, plan)
    expected = run(with_real_weights(model, rounded), feeds)["y"]
    data = emit_tflite(apply(model, rounded), rounded.plan)
    actual = Interpreter(model_content=data).get_signature_runner()(**feeds)["y"]
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    ((operator, kind),) = weight_types(data).items()
    grain = rounded.plan.tensors["t"].qparams.scheme.grain
    size = getattr(grain, "size", 0)
    narrow = narrowest(rounded, "t")
    if size and (size < 32 or narrow == "int8"):
        assert (operator.split()[0], kind) == ("GATHER", "float32")
    elif isinstance(grain, grid.PerTensor):
        assert (operator.split()[0], kind) == ("GATHER", "int8")
    else:
        assert (operator.split()[0], kind) == ("EMBEDDING_LOOKUP", narrow)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", ["int8", "int4", "int2"])
def test_large_integers_of_two_graphs_are_known_as_equal(name: str, turned: bool) -> None:
    wide = np.random.default_rng(0).integers(-2, 2, (1100, 1000)).astype(np.int8)
    dtype = np.dtype(name) if name == "int8" else np.dtype(getattr(ml_dtypes, name))
    first, second = (wide.astype(dtype) for _ in range(2))
    other = wide.copy()
    other[7, 9] ^= 1
    if turned:
        first, second, other = first.T, second.T, other.T
    assert mark(first) == mark(second) != mark(other.astype(dtype))
