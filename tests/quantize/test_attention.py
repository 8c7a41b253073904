"""A transformer layer on integers: matrix products are int8; what a grid would destroy stays in float."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporter.calibration import calibrate
from exporter.emit.tflite import emit_tflite
from exporter.preparing import INT8_PASSES, condition, prepare
from exporter.quantize import apply, make_plan
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

LAYER = """main (float[N,5,16] x, float[N,1,1,5] mask) => (float[N,5,16] y) {
    h = LayerNormalization(x, g, o)
    q0 = MatMul(h, wq)  q1 = Add(q0, bq)  q2 = Reshape(q1, heads)  q = Transpose<perm=[0,2,1,3]>(q2)
    k0 = MatMul(h, wk)  k1 = Add(k0, bk)  k2 = Reshape(k1, heads)  k = Transpose<perm=[0,2,3,1]>(k2)
    s = MatMul(q, k)  m = Add(s, mask)  p = Softmax<axis=-1>(m)
    v0 = MatMul(p, q)  v1 = Transpose<perm=[0,2,1,3]>(v0)  v2 = Reshape(v1, flat)
    c0 = MatMul(v2, wc)  c = Add(c0, bc)  r = Add(h, c)  y = LayerNormalization(r, g, o) }"""


def layer() -> tuple[ir.Model, dict[str, np.ndarray]]:
    arrays = {w: noise(16, 16) / 4 for w in ("wq", "wk", "wc")} | {b: noise(16) for b in ("bq", "bk", "bc")}
    shapes = {"heads": np.array([-1, 5, 4, 4]), "flat": np.array([-1, 5, 16])}
    model = model_of(LAYER, **arrays, **shapes, g=np.ones(16, np.float32), o=noise(16))
    mask = np.where(np.arange(5) < 4, 0, -10000).astype(np.float32) * np.ones((2, 1, 1, 1), np.float32)
    return model, {"x": noise(2, 5, 16), "mask": mask}


def test_a_bias_goes_into_the_product_whatever_the_rank():
    model, feeds = layer()
    ready = prepare(model, INT8_PASSES)
    kinds = [node.op_type for node in ready.graph]
    assert kinds.count("Gemm") == 3
    assert kinds.count("Add") == 2, "the mask and the residual"
    np.testing.assert_allclose(run(ready, feeds)["y"], run(model, feeds)["y"], atol=1e-5)


def test_masked_scores_and_the_residual_stream_stay_in_float():
    model, feeds = layer()
    ready = prepare(model, INT8_PASSES)
    plan = make_plan(ready, stats_of(ready, feeds))
    by_kind = {node.op_type: plan.float_nodes.get(str(node.name)) for node in ready.graph}
    assert by_kind["Softmax"] == "an attention mask would take up the range"
    assert {why for name, why in plan.float_nodes.items() if "Add" in name or name in {"m", "r"}} <= {
        "an attention mask would take up the range", "only float nodes read this sum"}  # fmt: skip
    assert by_kind["Gemm"] is None
    assert by_kind["MatMul"] is None
    quantized = apply(ready, plan)
    found, expected = run(quantized, feeds)["y"], run(model, feeds)["y"]
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).mean()
    assert b"TFL3" in emit_tflite(quantized, plan)[:8]


@pytest.mark.parametrize(("graph", "kept"), [
    ("s = Conv(x, w)  y = Softmax<axis=1>(s)", True),
    ("s = Conv(x, w)  t = Add(s, b)  y = Softmax<axis=1>(t)", True),
    ("s = Conv(x, w)  t = Add(s, x)  y = Softmax<axis=1>(t)", False),
    ("s = Conv(x, w)  t = Add(s, places)  y = Softmax<axis=1>(t)", True),
    ("s = Conv(x, w)  t = Add(s, windows)  y = Softmax<axis=1>(t)", False),
])  # fmt: skip
def test_only_a_mask_takes_the_softmax_out(graph, kept):
    arrays = {"w": noise(4, 4, 1, 1), "b": noise(1), "places": noise(1, 4, 8, 8)}
    arrays["windows"] = np.where(arrays["places"] < 1, 0, -100).astype(np.float32)
    used = {name: array for name, array in arrays.items() if f", {name})" in graph}
    model = model_of(f"main (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {graph} }}", **used)
    plan = make_plan(model, stats_of(model, {"x": noise(1, 4, 8, 8)}))
    assert ("y" in plan.tensors) == kept


def test_smoothing_evens_what_layers_read_and_what_they_write():
    rng, errors = np.random.default_rng(0), {"plain": 0.0, "smooth": 0.0}
    for _ in range(4):
        model, feeds = layer()
        feeds["x"] = rng.standard_normal((2, 5, 16)).astype(np.float32)
        for name in ("wq", "wk", "wc", "bq", "bk", "bc", "o"):
            value = model.graph.initializers[name]
            array = rng.standard_normal(value.shape.numpy()).astype(np.float32) / 4
            if name == "wc":
                array[:, 3] *= 40  # an output that dwarfs the others in the residual stream
            value.const_value = ir.tensor(array, name=name)
        ready = prepare(model, INT8_PASSES)
        seen = lambda net, values, feeds=feeds: calibrate(net, [feeds], values=values)  # noqa: E731
        even = condition(ready, ["smooth"], seen).model
        expected = run(model, feeds)["y"]
        np.testing.assert_allclose(run(even, feeds)["y"], expected, rtol=1e-3, atol=1e-3)
        for name, net in (("plain", ready), ("smooth", even)):
            plan = make_plan(net, stats_of(net, feeds))
            others = np.delete(run(apply(net, plan), feeds)["y"] - expected, 3, axis=-1)
            errors[name] += float(np.square(others).mean())
            assert all(plan.float_nodes.get(str(n.name)) for n in net.graph if n.op_type == "Mul"), "done in float"
    assert errors["smooth"] < 0.7 * errors["plain"]
