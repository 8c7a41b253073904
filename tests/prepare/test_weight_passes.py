"""The passes that make weights and activations easier to quantize: same function, better ranges."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from exporter.calibration import calibrate
from exporter.emit.ort import emit_onnx
from exporter.errors import DataError, RecipeError
from exporter.preparing import condition
from exporter.preparing.rotate import hadamard
from exporter.quantization import quantize
from exporter.quantize import apply
from exporter.recipe import Quantize
from tests.numbers import noise
from tests.quantize.graphs import model_of, run

CHAIN = """main (float[N,4,8,8] x) => (float[N,6] y) {
    c = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(c)
    d = Conv<group=8, pads=[1,1,1,1]>(r, v, a)  s = ACT
    e = Conv<group=2>(s, u, h)  t = LeakyRelu(e)
    g = GlobalAveragePool(t)  f = Flatten(g)  y = Gemm<transB=1>(f, m, k) }"""
ENCODER = """main (float[N,A,64] x) => (float[N,A,32] y) {
    n = LayerNormalization<axis=-1>(x, gamma, beta)
    q = MatMul(n, p1)  z = MatMul(n, p2)  s = Add(q, z)  r = Relu(s)
    o = MatMul(r, p3)  i = Add(o, r)  y = MatMul(i, p4) }"""


UNEVEN = np.geomspace(0.05, 20, 8).astype(np.float32)


def chain(act: str = "Relu(d)", **more: np.ndarray) -> ir.Model:
    """Channels a few hundred times larger than others, made up for by the layer behind them."""
    w, v, u, m = noise(8, 4, 3, 3), noise(8, 1, 3, 3), noise(8, 4, 1, 1), noise(6, 8)
    first, second, third = (UNEVEN[order] for order in (np.arange(8), np.arange(8)[::-1], np.roll(np.arange(8), 3)))
    w, b = w * first.reshape(8, 1, 1, 1), noise(8) * first
    v, a = v * (second / first).reshape(8, 1, 1, 1), noise(8) * second
    u = (u.reshape(2, 4, 4) / second.reshape(2, 1, 4)).reshape(8, 4, 1, 1) * third.reshape(8, 1, 1, 1)
    return model_of(
        CHAIN.replace("ACT", act), w=w, v=v, u=u, m=m / third, b=b, a=a, h=noise(8) * third, k=noise(6), **more
    )


def encoder() -> ir.Model:
    gamma = np.where(np.arange(64) == 7, 40, 1).astype(np.float32)  # one channel dwarfs all others
    arrays = {"p1": noise(64, 48), "p2": noise(64, 48), "p3": noise(48, 48), "p4": noise(48, 32)}
    return model_of(ENCODER, **arrays, gamma=gamma, beta=noise(64))


def observed(feeds):
    return lambda model, values: calibrate(model, [feeds], values=values)


def spread(model: ir.Model, name: str, axis: int) -> float:
    array = np.abs(model.graph.initializers[name].const_value.numpy())
    top = array.max(axis=tuple(i for i in range(array.ndim) if i != axis))
    return float(top.max() / top.min())


def test_equalization_changes_ranges_and_nothing_else():
    model, feeds = chain(), {"x": noise(3, 4, 8, 8)}
    even = condition(model, ["equalize"]).model
    np.testing.assert_allclose(run(even, feeds)["y"], run(model, feeds)["y"], rtol=1e-3, atol=1e-3)
    for name in ("w", "v", "u"):
        assert spread(even, name, 0) < 0.1 * spread(model, name, 0)


def test_equalization_opens_a_clip_that_does_not_clip():
    model, feeds = chain("Clip(d, zero, top)", zero=np.float32(0), top=np.float32(1e4)), {"x": noise(3, 4, 8, 8)}
    even = condition(model, ["equalize"]).model
    assert [n.op_type for n in even.graph].count("Relu") == 2
    np.testing.assert_allclose(run(even, feeds)["y"], run(model, feeds)["y"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "main (float[N,4,8,8] x) => (float[N,4,8,8] y) { c = Conv(x, w)  r = Sigmoid(c)  y = Conv(r, v) }",
        "main (float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] r) { c = Conv(x, w) r = Relu(c) y = Conv(r, v) }",
        "main (float[N,4,8,8] x) => (float[N,4,8,8] y) { c = Conv(x, w) d = Conv(c, v) s = Conv(c, w) y = Add(d, s) }",
    ],
    ids=["sigmoid", "graph output", "two readers"],
)
def test_what_is_not_tied_to_one_layer_alone_is_left(text):
    model = model_of(text, w=noise(4, 4, 1, 1) * UNEVEN[::2].reshape(4, 1, 1, 1), v=noise(4, 4, 1, 1))
    even = condition(model, ["equalize"]).model
    for name in "wv":
        before, after = (m.graph.initializers[name].const_value.numpy() for m in (model, even))
        np.testing.assert_array_equal(before, after)


def test_a_pass_that_finds_nothing_says_what_it_looked_for():
    feeds = {"x": noise(4, 5, 64)}
    idle = condition(encoder(), ["equalize", "smooth", "rotate"], observed(feeds)).idle
    assert {name: "pair of Convs" in place for name, place in idle.items()} == {"equalize": True}
    narrow = quantize(chain(), Quantize(passes=["rotate"]), lambda: [{"x": noise(3, 4, 8, 8)}])
    assert narrow.idle_passes == {"rotate": "MatMul or Gemm with a constant weight whose inputs divide by 16"}


def test_a_dead_channel_stays_finite():
    model = chain()
    dead = model.graph.initializers["w"].const_value.numpy().copy()
    dead[3] = 0
    model.graph.initializers["w"].const_value = ir.tensor(dead, name="w")
    feeds = {"x": noise(3, 4, 8, 8)}
    np.testing.assert_allclose(
        run(condition(model, ["equalize"]).model, feeds)["y"], run(model, feeds)["y"], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("name", ["smooth", "rotate"])
def test_linear_layers_compute_the_same(name):
    model, feeds = encoder(), {"x": noise(4, 5, 64)}
    other = condition(model, [name], observed(feeds)).model
    np.testing.assert_allclose(run(other, feeds)["y"], run(model, feeds)["y"], rtol=1e-2, atol=2e-2)


def test_smoothing_goes_into_the_layer_norm_where_only_linear_layers_read_it():
    feeds = {"x": noise(4, 5, 64)}
    smooth = condition(encoder(), ["smooth"], observed(feeds)).model
    ops = [node.op_type for node in smooth.graph]
    assert ops.count("Mul") == 2, "r is also read by an Add, and i comes from one; n is a LayerNormalization's own"
    gamma = smooth.graph.initializers["gamma"].const_value.numpy()
    assert gamma.max() / np.median(gamma) < 10


def test_a_rotation_is_orthogonal_and_kept_in_float():
    np.testing.assert_allclose(hadamard(32) @ hadamard(32).T, np.eye(32), atol=1e-12)
    feeds = {"x": noise(4, 5, 64)}
    found = quantize(encoder(), Quantize(weights="int4", activations="dynamic", granularity=16, passes=["rotate"]))
    rotations = [name for name, why in found.rounded.plan.float_nodes.items() if "rotation" in why]
    assert len(rotations) == 3
    assert not any(name.startswith("hadamard") for name in found.rounded.plan.tensors)
    assert feeds


@pytest.mark.parametrize(("name", "factor"), [("smooth", 0.5), ("rotate", 0.8)])
def test_an_outlying_channel_costs_less(name, factor):
    """Static int8: without the pass one channel sets the scale for all."""
    model, batches = encoder(), [{"x": noise(4, 5, 64)} for _ in range(4)]
    errors = []
    for passes in ([], [name]):
        found = quantize(model, Quantize(passes=passes), lambda: batches)
        emitted = emit_onnx(apply(found.model, found.rounded), found.rounded.plan)
        errors.append(np.mean([np.square(run(model, f)["y"] - run(emitted, f)["y"]).mean() for f in batches]))
    assert errors[1] < factor * errors[0]


def test_one_scale_for_all_channels_is_recovered_by_equalization():
    model, batches = chain(), [{"x": noise(8, 4, 8, 8)} for _ in range(4)]
    errors = []
    for passes in ([], ["equalize"]):
        found = quantize(model, Quantize(granularity="tensor", passes=passes), lambda: batches)
        emitted = emit_onnx(apply(found.model, found.rounded), found.rounded.plan)
        errors.append(np.mean([np.square(run(model, f)["y"] - run(emitted, f)["y"]).mean() for f in batches]))
    assert errors[1] < 0.3 * errors[0]


def test_mistakes():
    with pytest.raises(RecipeError, match="unknown pass 'equalise'; known: equalize, smooth, rotate"):
        condition(chain(), ["equalise"])
    with pytest.raises(DataError, match="'smooth' needs calibration samples"):
        condition(encoder(), ["smooth"])
