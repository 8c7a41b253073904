"""Widths and codebooks: from the recipe's words to the integers in the QDQ graph."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import grid
from exporter.errors import PlanError
from exporter.quantize import apply, make_plan
from exporter.quantize.schemes import initial_qparams, weight_scheme
from exporter.recipe import Override, Quantize, Weights
from exporter.rounding import WEIGHT_ROUNDERS, round_weights
from exporter.types import Codebook, PerChannel, PerGroup, PerTensor, Plan, QParams, Scheme
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

WIDTHS = [name for name in get_args(Weights) if not name.startswith("float")]
NET = """main (float[N,4,8,8] x) => (float[N,6] y) {
    c = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(c)  d = Conv<group=8, pads=[1,1,1,1]>(r, v, a)
    g = GlobalAveragePool(d)  f = Flatten(g)  y = Gemm<transB=1>(f, m, k) }"""
LINEAR = "main (float[N,64] x) => (float[N,6] y) { h = MatMul(x, p)  y = Gemm<transB=1>(h, m, k) }"
TABLE = "main (int64[N,5] ids) => (float[N,5,6] y) { e = Gather(t, ids)  y = MatMul(e, p) }"


def net():
    model = model_of(NET, w=noise(8, 4, 3, 3), b=noise(8), a=noise(8), v=noise(8, 1, 3, 3), m=noise(6, 8), k=noise(6))
    return model, stats_of(model, {"x": noise(8, 4, 8, 8)})


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("grain", [PerTensor(), PerChannel(1), PerGroup(1, 16)], ids=["tensor", "channel", "group"])
def test_every_width_on_every_grain(name, grain):
    array = noise(8, 40)
    scheme = weight_scheme(name, array, grain, None)
    qparams, _ = initial_qparams(array, scheme)
    integers = grid.quantize(array, qparams)
    assert qparams.scale.shape == grid.scale_shape(array.shape, grain)
    assert len(np.unique(integers)) <= 1 << scheme.bits
    assert integers.min() >= scheme.qmin
    assert integers.max() <= scheme.qmax
    codes = grid.codes(integers, scheme)
    assert codes.max() < 1 << scheme.bits
    moved = grid.centred(integers, qparams)
    if not qparams.zero_point.any():
        assert grid.centred(moved, qparams) is moved  # those of a whole model are held at once
    spread = grid.spread(qparams.scale, array.shape, grain)
    np.testing.assert_array_equal(moved.astype(np.float32) * spread, grid.dequantize(integers, qparams))


def test_more_bits_never_hurt_by_much():
    array = np.random.default_rng(0).standard_normal((16, 144)).astype(np.float32)

    def error(name):
        qparams, _ = initial_qparams(array, weight_scheme(name, array, PerChannel(0), None))
        return float(np.square(grid.dequantize(grid.quantize(array, qparams), qparams) - array).mean())

    errors = {name: error(name) for name in WIDTHS}
    order = ["int8", "int7", "int6", "int5", "int4", "int3", "int2", "binary"]
    assert all(errors[a] < errors[b] for a, b in itertools.pairwise(order))
    assert errors["int2"] < errors["ternary"] < errors["binary"]
    assert errors["nf4"] < errors["int4"], "weights are nearly normal"
    assert errors["kmeans4"] < errors["nf4"]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(WIDTHS), st.integers(0, 10**6), st.sampled_from([True, False, None]))
def test_clipping_never_costs_squared_error(name, seed, symmetric):
    array = np.random.default_rng(seed).standard_t(3, (3, 20)).astype(np.float32)
    scheme = weight_scheme(name, array, PerChannel(0), symmetric)
    plain = grid.range_of(array, scheme)

    def error(qparams, integers):
        return np.square(grid.dequantize(integers, qparams) - array).sum(axis=1)

    assert (
        error(*WEIGHT_ROUNDERS["mse"](array, plain)) <= error(*WEIGHT_ROUNDERS["nearest"](array, plain)) + 1e-6
    ).all()


def test_a_codebook_refuses_levels_out_of_order_or_range():
    for levels in ((0,), (1, 1), (3, 2), (-128, 0), (0, 128)):
        with pytest.raises(PlanError, match="codebook"):
            Codebook("mine", levels)


def test_a_row_holds_the_values_of_its_scale():
    array = noise(3, 50, 2)
    for grain in (PerTensor(), PerChannel(-1), PerGroup(1, 16), PerGroup(-1, 2)):
        rows, shape = grid.grouped(array, grain), grid.scale_shape(array.shape, grain)
        numbered = np.arange(1, len(rows) + 1, dtype=np.float32).reshape(shape)
        q = QParams(Scheme(8, True, True, grain), numbered, np.zeros(shape, np.int32))
        owner = grid.dequantize(np.ones(array.shape, np.int8), q)
        assert np.array_equal(np.unique(owner), numbered.reshape(-1))
        for number, row in enumerate(rows, 1):
            own = array[owner == number]
            np.testing.assert_array_equal(row, np.pad(own, (0, row.size - own.size)))


@pytest.mark.parametrize("name", WIDTHS)
def test_a_static_graph_computes_with_int8_of_any_width(name):
    model, stats = net()
    plan = make_plan(model, stats, Quantize(weights=name))
    assert Plan.from_json(plan.to_json()) == plan
    values = apply(model, plan).graph.initializers
    for weight in ("w", "v", "m"):
        q = plan.tensors[weight].qparams
        stored = values[f"{weight}_quantized"].const_value.numpy()
        assert stored.dtype == np.int8
        assert not values[f"{weight}_zero_point"].const_value.numpy().any()
        real = model.graph.initializers[weight].const_value.numpy()
        np.testing.assert_array_equal(stored, grid.centred(grid.quantize(real, q), q))


def test_overrides_match_node_weight_and_operator_and_the_last_one_wins():
    model, stats = net()
    model.graph[0].name = "stem/conv"
    wish = Quantize(
        weights="int4",
        override=[
            Override("Conv", weights="int3"),
            Override("stem/*", weights="int8", rounder="mse"),
            Override("m", weights="ternary"),
        ],
    )
    plan = make_plan(model, stats, wish)
    assert {n: plan.tensors[n].qparams.scheme.bits for n in "wvm"} == {"w": 8, "v": 3, "m": 2}
    assert plan.tensors["w"].rounder == "mse"
    assert plan.tensors["m"].qparams.scheme.levels == (-1, 0, 1)
    with pytest.raises(PlanError, match=r"no node, weight or operator matches 'head\*'"):
        make_plan(model, stats, Quantize(override=[Override("head*", weights="int4")]))


def test_an_override_keeps_a_node_in_float():
    model, stats = net()
    plan = make_plan(model, stats, Quantize(override=[Override("Gemm", weights="float")]))
    assert "override 'Gemm'" in plan.float_nodes["y"]
    assert "m" not in plan.tensors


def test_groups_with_int8_activations_are_refused():
    model, stats = net()
    with pytest.raises(PlanError, match="groups of 32 with int8 activations"):
        make_plan(model, stats, Quantize(granularity=32))


@pytest.mark.parametrize("activations", ["float", "dynamic"])
def test_linear_layers_with_groups_need_no_statistics(activations):
    model = model_of(LINEAR, p=noise(64, 16), m=noise(6, 16), k=noise(6))
    plan = make_plan(model, {}, Quantize(weights="int4", activations=activations, granularity=16, symmetric=False))
    assert plan.tensors["p"].qparams.scheme.grain == PerGroup(0, 16)
    assert plan.tensors["m"].qparams.scheme.grain == PerGroup(1, 16)
    assert set(plan.dynamic_nodes) == ({"h", "y"} if activations == "dynamic" else set())
    feeds = {"x": noise(5, 64)}
    rounded = round_weights(model, plan)
    real = run(apply(model, rounded), feeds, optimize=False)["y"]
    wanted = model.clone()
    for name in ("p", "m"):
        real_weight = grid.dequantize(rounded.integers[name], rounded.plan.tensors[name].qparams)
        wanted.graph.initializers[name].const_value = ir.tensor(real_weight)
    np.testing.assert_allclose(real, run(wanted, feeds, optimize=False)["y"], rtol=1e-4, atol=1e-4)


def test_embeddings_follow_the_weights_and_their_own_key():
    model = model_of(TABLE, t=noise(50, 64), p=noise(64, 6))
    for weights, embeddings, expected in [
        ("int8", "auto", (8, PerChannel(0))),
        ("int4", "auto", (4, PerGroup(1, 32))),
        ("int4", "int8", (8, PerChannel(0))),
    ]:
        plan = make_plan(model, {}, Quantize(weights=weights, embeddings=embeddings, activations="float"))
        scheme = plan.tensors["t"].qparams.scheme
        assert (scheme.bits, scheme.grain) == expected


def test_float16_weights():
    model = model_of(LINEAR, p=noise(64, 16), m=noise(6, 16), k=noise(6))
    plan = make_plan(model, {}, Quantize(weights="float16", activations="float"))
    assert Plan.from_json(plan.to_json()) == plan
    half = apply(model, plan)
    assert half.graph.initializers["p_float16"].const_value.numpy().dtype == np.float16
    feeds = {"x": noise(5, 64)}
    np.testing.assert_allclose(run(half, feeds)["y"], run(model, feeds)["y"], rtol=1e-2, atol=1e-1)


def test_a_plan_of_many_scales_reads_back():
    model = model_of("main (float[N,512] x) => (float[N,256] y) { y = MatMul(x, p) }", p=noise(512, 256))
    plan = make_plan(model, {}, Quantize(weights="int4", activations="dynamic", granularity=16, symmetric=False))
    text = plan.to_json()
    assert "base64" in text
    assert Plan.from_json(text) == plan


def test_integers_that_do_not_fit_are_refused():
    model, stats = net()
    rounded = round_weights(model, make_plan(model, stats))
    wrong = {**rounded.integers, "w": np.zeros((1, 1), np.int32)}
    with pytest.raises(PlanError, match=r"integers of shape \(1, 1\) for 'w'"):
        apply(model, type(rounded)(rounded.plan, wrong))
