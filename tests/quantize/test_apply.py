"""The QDQ graph carries the plan's numbers, and the emitted ONNX runs on integer kernels with the same ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter import grid
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.errors import PlanError
from exporter.parity.numbers import compare_numbers
from exporter.quantize import apply, make_plan
from exporter.types import Plan
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

BLOCK = """main (float[N,4,8,8] x) => (float[N,6] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1, b1)   ar = Clip(a, zero, six)
    s = Slice(ar, start, stop, axes)      q = Pad(s, pads)
    d = Conv<pads=[1,1,1,1], group=4>(q, w2, b2)
    e = Add(d, ar)  r = Relu(e)
    g = GlobalAveragePool(r)  f = Flatten(g)  y = Gemm<transB=1>(f, w3, b3) }"""


@pytest.fixture(scope="module")
def block():
    model = model_of(
        BLOCK,
        w1=noise(4, 4, 3, 3),
        b1=noise(4),
        w2=noise(4, 1, 3, 3),
        b2=noise(4),
        w3=noise(6, 4),
        b3=noise(6),
        zero=np.float32(0),
        six=np.float32(6),
        start=np.array([1], np.int64),
        stop=np.array([3], np.int64),
        axes=np.array([1], np.int64),
        pads=np.array([0, 1, 0, 0, 0, 1, 0, 0], np.int64),
    )
    feeds = {"x": noise(16, 4, 8, 8)}
    return model, feeds, make_plan(model, stats_of(model, feeds))


def test_every_number_of_the_graph_is_the_plan_s(block):
    model, _, plan = block
    values = apply(model, plan).graph.initializers
    for name, tensor in plan.tensors.items():
        np.testing.assert_array_equal(values[f"{name}_scale"].const_value.numpy(), tensor.qparams.scale)
        np.testing.assert_array_equal(values[f"{name}_zero_point"].const_value.numpy(), tensor.qparams.zero_point)
        if tensor.role != "activation":
            expected = grid.quantize(model.graph.initializers[name].const_value.numpy(), tensor.qparams)
            np.testing.assert_array_equal(values[f"{name}_quantized"].const_value.numpy(), expected)


def test_clamps_that_the_grid_performs_are_gone_and_the_float_graph_is_untouched(block):
    model, feeds, plan = block
    before = run(model, feeds)["y"]
    ops = Counter(node.op_type for node in apply(model, plan).graph)
    assert ops["Relu"] == 0
    assert ops["Clip"] == 0
    np.testing.assert_array_equal(run(model, feeds)["y"], before)


def test_emitted_graph_runs_on_integer_kernels_and_stays_close(block, tmp_path):
    model, feeds, plan = block
    emitted = emit_onnx(apply(model, plan))
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    session = ort.InferenceSession(ir.to_proto(emitted).SerializeToString(), options)
    kernels = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert (kernels["QLinearConv"], kernels["QLinearAdd"], kernels["QGemm"]) == (2, 1, 1)
    assert kernels["Conv"] == kernels["FusedConv"] == 0
    difference = session.run(None, feeds)[0] - run(model, feeds)["y"]
    assert np.abs(difference).max() < 8 * float(plan.tensors["y"].qparams.scale)


def test_unsigned_emission_gives_the_same_numbers_as_the_signed_graph(block):
    model, feeds, plan = block
    qdq = apply(model, plan)
    signed = run(qdq, feeds, optimize=False)["y"]
    np.testing.assert_array_equal(run(emit_onnx(qdq), feeds, optimize=False)["y"], signed)


def test_integer_inputs_and_outputs(block):
    model, feeds, plan = block
    emitted = emit_onnx(apply(model, plan, io="int8"))
    x, y = plan.tensors["x"].qparams, plan.tensors["y"].qparams
    result = run(emitted, {"x": grid.quantize(feeds["x"], x).astype(np.int8)})["y"]
    assert result.dtype == np.int8
    expected = grid.quantize(run(emit_onnx(apply(model, plan)), feeds)["y"], y)
    assert np.abs(result.astype(int) - expected).max() <= 1


def test_a_plan_of_another_graph_is_refused(block):
    model, _, plan = block
    with pytest.raises(PlanError, match="'other'"):
        apply(model, Plan({"other": plan.tensors["x"]}))


def test_a_bound_away_from_zero_is_no_end_of_a_grid():
    text = "main (float[N,4,8,8] x) => (float[N,4,8,8] y) { c = Conv(x, w) y = Clip(c, low) }"
    model = model_of(text, w=noise(4, 4, 1, 1), low=np.float32(0.5))
    feeds = {"x": noise(4, 4, 8, 8)}
    plan = make_plan(model, stats_of(model, feeds))
    assert {"c", "y"} <= set(plan.tensors), "the convolution has integers of its own"


def test_a_constant_is_as_it_was_where_nodes_in_float_read_it():
    text = """main (float[N,4,6,6] x, float[N,4,6,6] m) => (float[N,4,6,6] y, float[N,4,6,6] z) {
        c = Conv(x, w)  t = Tanh(c)  y = Add(t, one)  s = Sub(one, m)  z = Mul(s, low) }"""
    model = model_of(text, w=noise(4, 4, 1, 1), one=np.float32(1), low=np.float32(-1e30))
    feeds = {"x": noise(8, 4, 6, 6), "m": np.ones((8, 4, 6, 6), np.float32)}
    plan = make_plan(model, stats_of(model, feeds))
    assert "one" in plan.tensors, "the sum on integers reads it from a grid"
    qdq = apply(model, plan)
    for emitted in (qdq, emit_onnx(qdq, plan)):
        assert not run(emitted, feeds)["z"].any()
    data = emit_tflite(qdq, plan)
    assert not compare_numbers(plan, qdq, data).different
    assert not Interpreter(model_content=data).get_signature_runner()(**feeds)["z"].any()
