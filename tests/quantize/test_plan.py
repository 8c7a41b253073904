"""What the planner decides, on graphs small enough to check by eye."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.errors import PlanError
from exporter.quantize import apply, make_plan
from exporter.recipe import Quantize
from exporter.types import PerChannel, PerTensor, Plan
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

CONV = "main (float[1,3,8,8] x) => (float[1,4,8,8] y) { c = Conv<pads=[1,1,1,1]>(x, w, b)  y = Relu(c) }"


def _conv():
    return model_of(CONV, w=noise(4, 3, 3, 3), b=noise(4)), {"x": noise(1, 3, 8, 8)}


def test_convolution_per_channel_weights_and_bias_at_the_product_scale():
    model, feeds = _conv()
    plan = make_plan(model, stats_of(model, feeds))
    assert set(plan.tensors) == {"x", "w", "b", "y"}, "what Relu reads is never a tensor"
    assert plan.tensors["w"].qparams.scheme.grain == PerChannel(0)
    product = plan.tensors["x"].qparams.scale * plan.tensors["w"].qparams.scale
    np.testing.assert_array_equal(plan.tensors["b"].qparams.scale, product)
    assert plan.tensors["y"].qparams.zero_point == -128
    assert not plan.float_nodes


def test_a_layer_that_gave_nothing_but_zeros_runs_in_both():
    """With next to no scale XNNPACK did not load the file."""
    model = model_of(CONV, w=noise(4, 3, 3, 3), b=np.full(4, -100, np.float32))
    feeds = {"x": noise(1, 3, 8, 8)}
    plan = make_plan(model, stats_of(model, feeds))
    assert "nothing but zeros" in plan.tensors["y"].why
    quantized = apply(model, plan)
    found = Interpreter(model_content=emit_tflite(quantized, plan)).get_signature_runner()(**feeds)["y"]
    assert not found.any()
    assert not run(emit_onnx(quantized, plan), feeds)["y"].any()


def test_per_tensor_granularity():
    model, feeds = _conv()
    plan = make_plan(model, stats_of(model, feeds), Quantize(granularity="tensor"))
    assert plan.tensors["w"].qparams.scheme.grain == PerTensor()
    assert plan.tensors["b"].qparams.scale.ndim == 0


def test_operators_that_only_move_values_share_one_scale():
    model = model_of(
        """main (float[1,4,8,8] x) => (float[1,8,4,4] y) {
            a = Conv(x, w1)  b = Conv(x, w2)  j = Concat<axis=1>(a, b)
            p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(j)  y = Conv(p, w3) }""",
        w1=noise(4, 4, 1, 1),
        w2=noise(4, 4, 1, 1) * 5,
        w3=noise(8, 8, 1, 1),
    )
    plan = make_plan(model, stats_of(model, {"x": noise(1, 4, 8, 8)}))
    shared = [plan.tensors[n].qparams for n in ("a", "b", "j", "p")]
    assert all(q == shared[0] for q in shared)
    assert plan.tensors["y"].qparams != shared[0]
    assert "shared by 4" in plan.tensors["j"].why


@pytest.mark.parametrize(("op", "scale", "zero"), [("Sigmoid", 1 / 256, -128), ("Tanh", 1 / 128, 0)])
def test_fixed_output_scale(op, scale, zero):
    model = model_of(
        f"main (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ a = Conv(x, w)  y = {op}(a) }}", w=noise(4, 4, 1, 1)
    )
    q = make_plan(model, stats_of(model, {"x": noise(1, 4, 8, 8)})).tensors["y"].qparams
    assert (q.scale, q.zero_point) == (np.float32(scale), zero)


def test_concat_of_a_fixed_scale_with_another_runs_in_float_and_says_so():
    model = model_of(
        """main (float[1,4,8,8] x) => (float[1,8,8,8] y) {
            a = Conv(x, w)  s = Sigmoid(a)  m = MaxPool<kernel_shape=[1,1]>(s)
            j = Concat<axis=1>(a, m)  y = Conv(j, v) }""",
        w=noise(4, 4, 1, 1),
        v=noise(8, 8, 1, 1),
    )
    model.graph[3].name = "join"
    plan = make_plan(model, stats_of(model, {"x": noise(1, 4, 8, 8)}))
    assert "fixed scale" in plan.float_nodes["join"]


def test_lone_elementwise_nodes_stay_float():
    model = model_of("main (float[4] x) => (float[4] y) { a = Add(x, x)  y = Mul(a, x) }")
    plan = make_plan(model, stats_of(model, {"x": noise(4)}))
    assert not plan.tensors
    assert len(plan.float_nodes) == 2


def test_keep_float_by_pattern_and_a_pattern_that_matches_nothing():
    model, feeds = _conv()
    model.graph[0].name, model.graph[1].name = "stem/conv", "stem/relu"
    stats = stats_of(model, feeds)
    plan = make_plan(model, stats, Quantize(keep_float=["stem/c*"]))
    assert "keep_float" in plan.float_nodes["stem/conv"]
    with pytest.raises(PlanError, match=r"no node matches 'head\*'"):
        make_plan(model, stats, Quantize(keep_float=["head*"]))


def test_missing_statistics_name_the_tensor():
    model, _ = _conv()
    with pytest.raises(PlanError, match="'x'"):
        make_plan(model, {})


def test_a_bias_that_would_overflow_int32_widens_the_weight_scale():
    model = model_of(CONV, w=np.full((4, 3, 3, 3), 1e-12, np.float32), b=np.full(4, 3.0, np.float32))
    plan = make_plan(model, stats_of(model, {"x": noise(1, 3, 8, 8)}))
    assert (3.0 / plan.tensors["b"].qparams.scale < 2**31).all()
    assert "int32" in plan.tensors["w"].why


def test_plan_reads_back_from_json_exactly():
    model, feeds = _conv()
    plan = make_plan(model, stats_of(model, feeds))
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(PlanError, match="not a plan"):
        Plan.from_json("{}")
