"""The rounding stage: its parts against what they stand for, and what each algorithm promises."""

from __future__ import annotations

import typing

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import grid
from exporter.emit.ort import emit_onnx
from exporter.errors import DataError, PlanError
from exporter.quantize import apply, make_plan
from exporter.quantize.schemes import weight_scheme
from exporter.recipe import SEEING_SAMPLES, Override, Quantize, Rounder
from exporter.rounding import LAYER_ROUNDERS, WEIGHT_ROUNDERS, round_weights
from exporter.rounding.frontier import Frontier, samples_within
from exporter.rounding.gptq import output_target
from exporter.rounding.layers import layers_of
from exporter.rounding.moments import Moments, sums
from exporter.types import PerChannel, PerGroup, PerTensor
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

NET = """main (float[N,4,9,9] x) => (float[N,6] y) {
    c = Conv<pads=[1,0,2,1], strides=[2,1], dilations=[1,2]>(x, w, b)  r = Relu(c)
    d = Conv<group=8, auto_pad="SAME_UPPER", strides=[2,2]>(r, v, a)
    e = Conv<group=2>(d, u)  s = Add(e, d)  h = Relu(s)
    g = GlobalAveragePool(h)  f = Flatten(g)  y = Gemm(f, m, k) }"""
LINEAR = "main (float[N,A,48] x) => (float[N,A,6] y) { h = MatMul(x, p) r = Relu(h) y = MatMul(r, q) }"


def net() -> ir.Model:
    arrays = {"w": noise(8, 4, 3, 3), "v": noise(8, 1, 3, 3), "u": noise(8, 4, 1, 1), "m": noise(8, 6)}
    return model_of(NET, **arrays, b=noise(8), a=noise(8), k=noise(6))


def batches(count: int, *shape: int):
    """Correlated, as activations are: rounding one weight can make up for another."""
    rng = np.random.default_rng(5)
    mix = rng.standard_normal((shape[0], shape[0])) @ np.diag(np.geomspace(1, 0.05, shape[0]))
    return [
        {"x": np.einsum("ij,nj...->ni...", mix, rng.standard_normal((4, *shape))).astype(np.float32)}
        for _ in range(count)
    ]


def test_columns_times_rows_are_what_the_node_computes():
    model = net()
    feeds = batches(1, 4, 9, 9)[0]
    wide = model.clone()
    for node in wide.graph:
        if not node.outputs[0].is_graph_output():
            wide.graph.outputs.append(node.outputs[0])
    values = {**feeds, **run(wide, feeds, optimize=False)}
    layers = layers_of(model)
    assert [layer.weight for layer in layers] == ["w", "v", "u", "m"]
    for layer in layers:
        weight = model.graph.initializers[layer.weight].const_value.numpy()
        source = values[layer.source]
        expected = values[layer.node.outputs[0].name]
        if layer.bias is not None:
            bias = model.graph.initializers[layer.bias].const_value.numpy()
            expected = expected - bias.reshape([1, -1] + [1] * (expected.ndim - 2))
        product = np.matmul(layer.columns(source, 1), layer.matrix(weight).swapaxes(1, 2))  # [G, positions, rows]
        actual = np.moveaxis(product, 0, 1).reshape(product.shape[1], -1)
        np.testing.assert_allclose(actual, np.moveaxis(expected, 1, -1).reshape(actual.shape), atol=1e-4)
        assert layer.positions(source) == len(actual)
        np.testing.assert_array_equal(layer.columns(source, 3, 2), layer.columns(source, 1)[:, 2::3])
        np.testing.assert_array_equal(layer.tensor(layer.matrix(weight)), weight)


def test_a_frontier_gives_every_value_and_forgets_what_is_done():
    model, feeds = net(), batches(3, 4, 9, 9)
    expected = [run(exposed(model, ["d", "f"]), feed, optimize=False) for feed in feeds]
    frontier = Frontier(model, feeds)
    for name in ("x", "r", "d", "f"):
        for i, (array,) in enumerate(frontier.reach(name)):
            if name in expected[i]:
                np.testing.assert_allclose(array, expected[i][name], atol=1e-4)
    assert set(frontier._kept) == {"f"}


def exposed(model: ir.Model, names: list[str]) -> ir.Model:
    copy = model.clone()
    values = {v.name: v for node in copy.graph for v in node.outputs}
    copy.graph.outputs.extend(values[n] for n in names)
    return copy


def test_a_frontier_sees_weights_that_change_ahead_of_it():
    model, feeds = net(), batches(2, 4, 9, 9)
    frontier = Frontier(model, feeds)
    list(frontier.reach("r"))
    changed = noise(8, 1, 3, 3)
    model.graph.initializers["v"].const_value = ir.tensor(changed, name="v")
    found = [array for (array,) in frontier.reach("d")]
    expected = run(exposed(model, ["d"]), feeds[1], optimize=False)["d"]
    np.testing.assert_allclose(found[1], expected, atol=1e-4)


def test_quantized_activations_are_kept_as_int8():
    model, feeds = net(), batches(2, 4, 9, 9)
    quantized = apply(model, make_plan(model, stats_of(model, feeds[0])))
    frontier = Frontier(quantized, feeds)
    list(frontier.reach("r_dequantized"))
    list(frontier.reach("d_dequantized"))
    kept = {name: arrays[0].dtype for name, arrays in frontier._kept.items()}
    assert kept == {"d_quantized": np.int8}


def test_samples_are_as_many_as_memory_allows():
    model, feeds = net(), batches(1, 4, 9, 9)
    least = samples_within(model, feeds[0], 0)
    assert least == 64
    some, more = samples_within(model, feeds[0], 1 << 20), samples_within(model, feeds[0], 1 << 21)
    assert least < some < more < 2.1 * some


def moments_of(columns: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((2, columns, columns)) * np.geomspace(1, 0.05, columns)
    f = np.matmul(rng.standard_normal((2, 400, columns)), mix)
    x = f + 0.1 * rng.standard_normal(f.shape)
    moments = Moments()
    for start in (0, 150):
        part = slice(start, start + (150 if start == 0 else 250))
        moments.add(sums(x[:, part].astype(np.float32), f[:, part].astype(np.float32)))
    np.testing.assert_allclose(moments.covariance[1], np.cov(x[1].T, bias=True), atol=1e-3)
    weight = rng.standard_normal((2, 5, columns))
    return weight, moments.covariance, moments.cross


def objective(integers, target, covariance, scale, zero):
    error = (integers - zero) * scale - target
    return np.einsum("gok,gkl,gol->go", error, covariance, error)


def test_every_rounder_is_known_to_the_recipe():
    assert set(LAYER_ROUNDERS) == SEEING_SAMPLES
    assert {"auto", *LAYER_ROUNDERS, *WEIGHT_ROUNDERS} == set(typing.get_args(Rounder))


WIDTHS = ["int8", "int5", "int4", "int3", "int2", "ternary", "binary", "nf4", "kmeans3"]


@pytest.mark.parametrize("rounder", LAYER_ROUNDERS)
@settings(max_examples=20, deadline=None)
@given(st.sampled_from(WIDTHS), st.integers(2, 90), st.booleans(), st.integers(0, 10**6))
def test_no_row_is_worse_than_nearest_on_the_objective(rounder, width, columns, symmetric, seed):
    weight, covariance, cross = moments_of(columns, seed)
    target = output_target(weight, covariance, cross)
    flat = target.reshape(10, columns).astype(np.float32)
    q = grid.qparams_of_least_error(flat, weight_scheme(width, flat, PerChannel(0), symmetric))
    scale, zero = q.scale.astype(np.float64).reshape(2, 5, 1), q.zero_point.reshape(2, 5, 1)
    found = LAYER_ROUNDERS[rounder](target, covariance, scale, zero, q.scheme)
    assert found.min() >= q.scheme.qmin
    assert found.max() <= q.scheme.qmax
    nearest = grid.quantize(flat, q).reshape(target.shape)
    ours = objective(found, target, covariance, scale, zero)
    assert (ours <= objective(nearest, target, covariance, scale, zero) * (1 + 1e-9) + 1e-12).all()


@pytest.mark.parametrize("rounder", LAYER_ROUNDERS)
def test_the_network_comes_closer_to_the_float_one_and_its_mean_is_right(rounder):
    model, feeds = net(), batches(40, 4, 9, 9)
    stats = stats_of(model, {"x": np.concatenate([f["x"] for f in feeds])})
    held_out = batches(60, 4, 9, 9)[40:]
    errors = {}
    for name in ("nearest", rounder):
        plan = make_plan(model, stats, Quantize(weights="int3", rounder=name))
        rounded = round_weights(model, plan, lambda: feeds)
        emitted = emit_onnx(apply(model, rounded), rounded.plan)
        pairs = [(run(model, f)["y"], run(emitted, f)["y"]) for f in held_out]
        errors[name] = float(np.mean([np.square(a - b).mean() for a, b in pairs]))
        if name != "nearest":
            there = np.mean([(a - b).mean(axis=0) for a, b in pairs], axis=0)
            spread = np.std(np.concatenate([a for a, _ in pairs]), axis=0)
            assert np.abs(there / spread).max() < 0.25
    assert errors[rounder] < 0.5 * errors["nearest"]


@pytest.mark.parametrize("rounder", WEIGHT_ROUNDERS)
def test_biases_make_up_for_the_mean_error_of_rounders_that_see_no_data(rounder):
    model, feeds = net(), batches(40, 4, 9, 9)
    stats = stats_of(model, {"x": np.concatenate([f["x"] for f in feeds])})
    plan = make_plan(model, stats, Quantize(weights="int3", rounder=rounder))
    errors, means, integers = [], [], []
    for corrected in (False, True):
        rounded = round_weights(model, plan, lambda: feeds, bias_correction=corrected)
        emitted = emit_onnx(apply(model, rounded), rounded.plan)
        apart = np.concatenate([run(model, f)["y"] - run(emitted, f)["y"] for f in feeds])
        errors.append(float(np.square(apart).mean()))
        means.append(float(np.abs(apart.mean(axis=0)).max()))
        integers.append(rounded.integers)
    assert errors[1] < errors[0]
    assert means[1] < 0.1 * means[0]
    assert all(np.array_equal(integers[0][name], integers[1][name]) for name in integers[0])


@pytest.mark.parametrize("grain", [PerTensor(), PerChannel(1), PerGroup(0, 16)], ids=["tensor", "channel", "group"])
def test_linear_layers_of_every_grain(grain):
    model = model_of(LINEAR, p=noise(48, 32), q=noise(32, 6))
    feeds = [{"x": noise(4, 7, 48)} for _ in range(8)]
    granularity = {PerTensor: "tensor", PerChannel: "channel", PerGroup: 16}[type(grain)]
    wish = Quantize(weights="int3", activations="float", granularity=granularity, rounder="gptq")
    plan = make_plan(model, {}, wish)
    assert plan.tensors["p"].qparams.scheme.grain == grain
    errors = []
    for rounded in (round_weights(model, make_plan(model, {}, Quantize(**{**KEYS(wish), "rounder": "mse"}))),
                    round_weights(model, plan, lambda: feeds)):  # fmt: skip
        emitted = emit_onnx(apply(model, rounded), rounded.plan)
        errors.append(np.mean([np.square(run(model, f)["y"] - run(emitted, f)["y"]).mean() for f in feeds]))
    assert errors[1] < errors[0]


def KEYS(wish: Quantize) -> dict[str, object]:
    return {name: getattr(wish, name) for name in ("weights", "activations", "granularity")}


def test_a_head_that_is_also_the_table_is_rounded_for_both():
    text = "main (int64[N] i) => (float[N,40] y) { e = Gather(t, i) h = MatMul(e, p) y = Gemm<transB=1>(h, t) }"
    model = model_of(text, t=noise(40, 32), p=noise(32, 32))
    feeds = [{"i": np.arange(40) * (1 + n) % 40} for n in range(4)]
    wish = Quantize(weights="int3", activations="float", granularity=16, rounder="gptq")
    rounded = round_weights(model, make_plan(model, {}, wish, samples=True), lambda: feeds)
    alone = round_weights(model, make_plan(model, {}, Quantize(**{**KEYS(wish), "rounder": "mse"})))
    assert [rounded.plan.tensors[name].rounder for name in "tp"] == ["gptq", "gptq"]
    table, product = (model.graph.initializers[name].const_value.numpy() for name in "tp")
    reads = np.concatenate([table[f["i"]] @ product for f in feeds]).astype(np.float64)
    covariance = reads.T @ reads / len(reads)

    def loss(found):  # as the head, and as what is looked up
        error = grid.dequantize(found.integers["t"], found.plan.tensors["t"].qparams) - table
        return np.trace(error @ (covariance + np.diag(covariance).mean() * np.eye(32)) @ error.T)

    assert loss(rounded) < 0.9 * loss(alone)


def test_a_table_that_is_only_looked_up_is_nearest_by_least_squares():
    text = "main (int64[N] i) => (float[N,8] y) { e = Gather(t, i) y = MatMul(e, p) }"
    model = model_of(text, t=noise(40, 32), p=noise(32, 8))
    wish = Quantize(weights="int3", activations="float", granularity=16, override=[Override("Gather", rounder="gptq")])
    rounded = round_weights(model, make_plan(model, {}, wish, samples=True), lambda: [{"i": np.arange(40)}])
    assert [rounded.plan.tensors[name].rounder for name in "tp"] == ["mse", "gptq"]


def test_only_some_layers():
    model, feeds = net(), batches(10, 4, 9, 9)
    stats = stats_of(model, {"x": np.concatenate([f["x"] for f in feeds])})
    wish = Quantize(weights="int4", rounder="nearest", override=[Override("Gemm", rounder="gptq", weights="int2")])
    plan = make_plan(model, stats, wish)
    rounded = round_weights(model, plan, lambda: feeds)
    w = model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_array_equal(rounded.integers["w"], grid.quantize(w, plan.tensors["w"].qparams))
    assert rounded.plan.tensors["m"].qparams != plan.tensors["m"].qparams


def test_the_same_samples_give_the_same_integers():
    model, feeds = net(), batches(10, 4, 9, 9)
    stats = stats_of(model, {"x": np.concatenate([f["x"] for f in feeds])})
    plan = make_plan(model, stats, Quantize(weights="int3", rounder="gptq"))
    first, second = (round_weights(model, plan, lambda: feeds) for _ in range(2))
    assert first.plan == second.plan
    for name, integers in first.integers.items():
        np.testing.assert_array_equal(integers, second.integers[name])


def test_mistakes_are_one_line():
    model, feeds = net(), batches(1, 4, 9, 9)
    plan = make_plan(model, stats_of(model, feeds[0]), Quantize(weights="int4", rounder="gptq"))
    with pytest.raises(DataError, match="'gptq' needs calibration samples"):
        round_weights(model, plan)
    nearest = make_plan(model, stats_of(model, feeds[0]), Quantize(rounder="nearest"))
    with pytest.raises(DataError, match="bias_correction needs calibration samples"):
        round_weights(model, nearest, bias_correction=True)
    with pytest.raises(DataError, match="no samples"):
        round_weights(model, plan, lambda: [])
    other = model_of(LINEAR, p=noise(48, 32), q=noise(32, 6))
    with pytest.raises(PlanError, match="not a constant of the graph"):
        round_weights(other, plan)


@pytest.mark.parametrize("rounder", LAYER_ROUNDERS)
@pytest.mark.parametrize("level", [1e-3, 1, 1e3])
def test_one_sample_is_enough_to_round(rounder, level):
    model = net()
    feeds = [{"x": level * noise(1, 4, 9, 9) + 3 * level}]  # its mean is most of it: covariances are rounding errors
    rounded = round_weights(
        model, make_plan(model, stats_of(model, feeds[0]), Quantize(weights="int4", rounder=rounder)), lambda: feeds
    )
    assert set(rounded.integers) >= {"w", "v", "u", "m"}
