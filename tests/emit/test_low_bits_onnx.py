"""Every width in an ONNX file: its bytes, the kernel that ONNX Runtime runs, and whether the numbers hold."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from exporter import grid
from exporter.emit.ort import emit_onnx
from exporter.packing import onnx_bytes
from exporter.quantize import apply, make_plan
from exporter.recipe import Quantize, Weights
from exporter.rounding import round_weights
from exporter.types import Rounded
from tests.numbers import noise
from tests.quantize.graphs import model_of, stats_of
from tests.quantize.graphs import run as run_model

WIDTHS = [name for name in get_args(Weights) if not name.startswith("float")]
BITS = {"ternary": 2, "binary": 1} | {n: int(n[-1]) for n in WIDTHS if n[-1].isdigit()}
CONVS = """main (float[N,8,8,8] x) => (float[N,10] y) {
    c = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(c)  d = Conv<group=16, pads=[1,1,1,1]>(r, v, a)
    e = Conv<group=2>(d, u) s = Add(e, r)  g = GlobalAveragePool(s)  f = Flatten(g)  y = Gemm<transB=1>(f, m, k) }"""
LINEAR = """main (float[N,A,128] x) => (float[N,A,10] y) {
    h = MatMul(x, p) r = Relu(h) j = MatMul(r, q) y = Add(j, k) }"""
GEMMS = "main (float[N,128] x) => (float[N,10] y) { h = Gemm(x, p, c) r = Relu(h) y = Gemm<transB=1>(r, t, k) }"
TABLE = "main (int64[N,A] ids) => (float[N,A,64] y) { y = Gather(t, ids) }"


def convs():
    arrays = {"w": noise(16, 8, 3, 3), "v": noise(16, 1, 3, 3), "u": noise(16, 8, 1, 1), "m": noise(10, 16)}
    return model_of(CONVS, **arrays, a=noise(16), b=noise(16), k=noise(10))


def linear():
    return model_of(LINEAR, p=noise(128, 64), q=noise(64, 10), k=noise(10))


def gemms():
    return model_of(GEMMS, p=noise(128, 64), c=noise(64), t=noise(10, 64), k=noise(10))


def session(model: ir.Model, path, feeds, *, lean=True):
    """Outputs, the operators that run, and initializers by name in the graph that the runtime has optimised.

    lean: from the file as it ships, without types and shapes of inner values.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    opened = ort.InferenceSession(onnx_bytes(model, lean=lean), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(path).graph
    return opened.run(None, feeds)[0], Counter(n.op_type for n in graph.node), {i.name: i for i in graph.initializer}


def with_real_weights(model: ir.Model, rounded: Rounded) -> ir.Model:
    """The float graph with the numbers that the integers stand for."""
    copy = model.clone()
    for name, integers in rounded.integers.items():
        q = rounded.plan.tensors[name].qparams
        copy.graph.initializers[name].const_value = ir.tensor(grid.dequantize(integers, q))
    return copy


def weight_bytes(model: ir.Model) -> int:
    return sum(v.const_value.nbytes for v in model.graph.initializers.values())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
def test_integer_graphs_run_on_the_kernels_of_8_bits_and_take_the_bytes_of_few(width, symmetric, tmp_path):
    model, feeds = convs(), {"x": noise(4, 8, 8, 8)}
    plan = make_plan(model, stats_of(model, feeds), Quantize(weights=width, symmetric=symmetric))
    quantized = apply(model, plan)
    plain, packed = emit_onnx(quantized), emit_onnx(quantized, plan)
    expected, kernels, _ = session(plain, tmp_path / "plain.onnx", feeds, lean=False)
    actual, same, weights = session(packed, tmp_path / "packed.onnx", feeds)
    np.testing.assert_array_equal(actual, expected)
    assert same == kernels
    assert (same["QLinearConv"], same["QGemm"], same["Conv"] + same["FusedConv"]) == (3, 1, 0)
    assert weights["w_quantized"].data_type == onnx.TensorProto.INT8
    count = 16 * 8 * 9
    assert weight_bytes(plain) - weight_bytes(packed) >= 0.95 * count * (1 - BITS[width] / 8) - 32


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("net", [linear, gemms], ids=["matmul", "gemm"])
@pytest.mark.parametrize("activations", ["float", "dynamic"])
@pytest.mark.parametrize("granularity", ["channel", 16, 64])
def test_linear_layers(width, symmetric, net, activations, granularity, tmp_path):
    model = net()
    feeds = {"x": noise(5, 128) if net is gemms else noise(2, 5, 128)}
    wish = Quantize(weights=width, symmetric=symmetric, activations=activations, granularity=granularity)
    plan = make_plan(model, {}, wish)
    rounded = round_weights(model, plan)
    expected = run_model(with_real_weights(model, rounded), feeds)["y"]
    emitted = emit_onnx(apply(model, rounded), rounded.plan)
    actual, kernels, _ = session(emitted, tmp_path / "m.onnx", feeds)
    top = np.abs(expected).max()
    if activations == "float":
        np.testing.assert_allclose(actual, expected, atol=1e-4 * top)
        assert not {"DequantizeLinear", "Cast", "Mul", "MatMulNBits"} & set(kernels), "folded at load"
    else:
        assert np.abs(actual - expected).max() < 0.05 * top
        kernel = "DynamicQuantizeMatMul" if granularity == "channel" else "MatMulNBits"
        assert kernels[kernel] == 2
        assert set(kernels) <= {kernel, "Relu", "Add", "DynamicQuantizeLinear"}
    values = 128 * 64 + 64 * 10
    scales = 5 * values / granularity if isinstance(granularity, int) else 8 * 74
    assert weight_bytes(emitted) < values * BITS[width] / 8 + scales + 500


@pytest.mark.parametrize("width", ["int8", "int4", "int2"])
@pytest.mark.parametrize("granularity", ["channel", "tensor", 16, 32])
def test_tables(width, granularity, tmp_path):
    model = model_of(TABLE, t=noise(100, 64))
    feeds = {"ids": np.array([[0, 99, 5], [7, 7, 64]])}
    plan = make_plan(model, {}, Quantize(embeddings=width, granularity=granularity, activations="float"))
    rounded = round_weights(model, plan)
    expected = run_model(with_real_weights(model, rounded), feeds)["y"]
    emitted = emit_onnx(apply(model, rounded), rounded.plan)
    actual, kernels, _ = session(emitted, tmp_path / "m.onnx", feeds)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert "DequantizeLinear" not in kernels, "the whole table, in every run"
    blocked = isinstance(plan.tensors["t"].qparams.scheme.grain, type(grid.PerGroup(0, 1)))
    assert kernels["GatherBlockQuantized"] == (1 if blocked else 0)
    assert weight_bytes(emitted) < 6400 * BITS[width] / 8 + 6400 / 16 * 4 + 600


def test_convolutions_with_integer_weights_and_float_activations(tmp_path):
    model, feeds = convs(), {"x": noise(4, 8, 8, 8)}
    for width in ("int8", "int4", "int3", "nf4"):
        plan = make_plan(model, {}, Quantize(weights=width, activations="float"))
        rounded = round_weights(model, plan)
        expected = run_model(with_real_weights(model, rounded), feeds)["y"]
        actual, kernels, _ = session(emit_onnx(apply(model, rounded), rounded.plan), tmp_path / "m.onnx", feeds)
        np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())
        assert not {"DequantizeLinear", "Cast", "Mul"} & set(kernels), "folded at load"


def test_one_quantizer_for_all_that_read_an_activation(tmp_path):
    text = """main (float[N,64] x) => (float[N,32] y) { a = MatMul(x, p) b = MatMul(x, q) y = Add(a, b) }"""
    model = model_of(text, p=noise(64, 32), q=noise(64, 32))
    plan = make_plan(model, {}, Quantize(activations="dynamic"))
    ops = Counter(n.op_type for n in emit_onnx(apply(model, plan), plan).graph)
    assert (ops["DynamicQuantizeLinear"], ops["MatMulInteger"]) == (1, 2)


def test_tied_weights_are_stored_once():
    text = """main (int64[N,A] ids) => (float[N,100] y) {
        e = Gather(t, ids) s = ReduceMean<keepdims=0>(e, axis) y = Gemm<transB=1>(s, t, k) }"""
    model = model_of(text, t=noise(100, 64), k=noise(100), axis=np.array([1]))
    plan = make_plan(model, {}, Quantize(weights="int4", activations="dynamic", granularity=32))
    emitted = emit_onnx(apply(model, plan), plan)
    assert weight_bytes(emitted) < 1.3 * (3200 + 200 * 4 + 400)


@pytest.mark.parametrize("granularity", ["channel", 32])
@pytest.mark.parametrize("width", ["int8", "int4", "nf4"])
@pytest.mark.parametrize("activations", ["float", "dynamic"])
def test_what_several_nodes_read_is_stored_once(width, granularity, activations, tmp_path):
    text = """main (int64[N,A] ids, int64[N,A] more) => (float[N,A,64] y) {
        e = Gather(t, ids) f = Gather(t, more) s = Add(e, f) a = MatMul(s, p) r = Relu(a) y = MatMul(r, p) }"""
    model = model_of(text, t=noise(100, 64), p=noise(64, 64) / 8)
    feeds = {"ids": np.array([[0, 99, 5], [7, 7, 64]]), "more": np.array([[1, 2, 3], [99, 0, 1]])}
    plan = make_plan(model, {}, Quantize(weights=width, activations=activations, granularity=granularity))
    rounded = round_weights(model, plan)
    expected = run_model(with_real_weights(model, rounded), feeds)["y"]
    emitted = emit_onnx(apply(model, rounded), rounded.plan)
    actual, _, _ = session(emitted, tmp_path / "m.onnx", feeds)
    assert np.abs(actual - expected).max() < (0.05 if activations == "dynamic" else 1e-4) * np.abs(expected).max()
    values, table_bits = 6400, 8 if width == "int8" else 4
    scales = 2 * 4 * (values / granularity if isinstance(granularity, int) else 264)
    assert weight_bytes(emitted) < (values * table_bits + 4096 * BITS[width]) / 8 + scales + 900


@pytest.mark.parametrize("width", WIDTHS)
def test_the_same_plan_gives_the_same_bytes(width):
    model, feeds = convs(), {"x": noise(4, 8, 8, 8)}
    plan = make_plan(model, stats_of(model, feeds), Quantize(weights=width))
    first, second = (
        ir.to_proto(emit_onnx(apply(model, plan), plan)).SerializeToString(deterministic=True) for _ in "ab"
    )
    assert first == second
