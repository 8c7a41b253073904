"""Blocks that learn their roundings together: where they are cut, that learning never makes one worse, what ships."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.errors import DataError, KbitError, MissingError
from exporter.finetune import Network
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantization import Quantized, quantize
from exporter.quantize import apply
from exporter.recipe import Override, Quantize
from exporter.reconstruction import learning, run
from exporter.reconstruction.blocks import blocks_of
from exporter.reconstruction.samples import Samples
from exporter.reconstruction.soft import SoftWeight
from exporter.types import Rounded
from tests.quantize.graphs import model_of
from tests.quantize.graphs import run as run_onnx

RNG = np.random.default_rng(5)


def noise(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


@cache
def residual() -> ir.Model:
    """Two residual blocks, a head."""
    text = """main (float[N,4,8,8] x) => (float[N,5] y) {
        a = Conv<pads=[1,1,1,1]>(x, w1, b1) r1 = Relu(a)
        c = Conv<pads=[1,1,1,1]>(r1, w2, b2) r2 = Relu(c) d = Conv<pads=[1,1,1,1]>(r2, w3, b3)
        s1 = Add(d, r1) r3 = Relu(s1)
        e = Conv<pads=[1,1,1,1]>(r3, w4, b4) r4 = Relu(e) f = Conv<pads=[1,1,1,1]>(r4, w5, b5)
        s2 = Add(f, r3) r5 = Relu(s2)
        p = GlobalAveragePool(r5) q = Flatten(p) y = Gemm<transB=1>(q, w6, b6)
    }"""
    wide = {f"w{i}": noise(8, 4 if i == 1 else 8, 3, 3) for i in range(1, 6)}
    return model_of(text, **wide, w6=noise(5, 8), **{f"b{i}": noise(5 if i == 6 else 8, 1)[:, 0] for i in range(1, 7)})


@cache
def depthwise() -> ir.Model:
    text = """main (float[N,4,8,8] x) => (float[N,8,4,4] y) {
        a = Conv(x, w1, b1) c = Clip(a, zero, six)
        d = Conv<pads=[1,1,1,1], strides=[2,2], group=8>(c, w2, b2) e = Clip(d, zero, six) y = Conv(e, w3)
    }"""
    ends = {"zero": np.float32(0).reshape(()), "six": np.float32(6).reshape(())}
    weights = {"w1": noise(8, 4, 1, 1), "w2": noise(8, 1, 3, 3), "w3": noise(8, 8, 1, 1)}
    return model_of(text, **weights, b1=noise(8, 1)[:, 0], b2=noise(8, 1)[:, 0], **ends)


@cache
def linear() -> ir.Model:
    text = """main (float[N,16] x) => (float[N,6] y) {
        a = Gemm(x, w1, b1) c = Relu(a) d = MatMul(c, w2) e = Relu(d) y = Gemm<transB=1>(e, w3, b3)
    }"""
    return model_of(
        text, w1=noise(16, 24), b1=noise(24, 1)[:, 0], w2=noise(24, 16), w3=noise(6, 16), b3=noise(6, 1)[:, 0]
    )


@cache
def transformer() -> ir.Model:
    """One block with a mask, which depends on no weight and passes all cuts by."""
    text = """main (float[N,6,16] x, float[N,1,6,6] m) => (float[N,6,16] y) {
        h0 = MatMul(x, w0) h1 = MatMul(h0, w1) g = Relu(h1)
        n = LayerNormalization<axis=-1>(g, s, z)
        q = MatMul(n, wq) k = MatMul(n, wk) v = MatMul(n, wv)
        q1 = Reshape(q, heads) q2 = Transpose<perm=[0,2,1,3]>(q1) k1 = Reshape(k, heads)
        k2 = Transpose<perm=[0,2,3,1]>(k1) v1 = Reshape(v, heads) v2 = Transpose<perm=[0,2,1,3]>(v1)
        t = MatMul(q2, k2) u = Add(t, m) p = Softmax<axis=-1>(u) o = MatMul(p, v2)
        o1 = Transpose<perm=[0,2,1,3]>(o) o2 = Reshape(o1, flat) o3 = MatMul(o2, wo) r = Add(g, o3)
        f = MatMul(r, wf) f1 = Relu(f) f2 = MatMul(f1, wg) y = Add(r, f2)
    }"""
    weights = {name: noise(16, 16) for name in ("w0", "w1", "wq", "wk", "wv", "wo", "wf", "wg")}
    shapes = {"heads": np.array([0, 6, 2, 8], np.int64), "flat": np.array([0, 6, 16], np.int64)}
    return model_of(text, **weights, **shapes, s=np.ones(16, np.float32), z=np.zeros(16, np.float32))


def feeds_of(model: ir.Model, batches: int, rows: int = 4) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    shapes = {str(v.name): [d if isinstance(d, int) else rows for d in v.shape or ()] for v in model.graph.inputs}
    return [{n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()} for _ in range(batches)]


CASES: dict[str, tuple[Callable[[], ir.Model], int, Quantize]] = {
    "residual": (residual, 40, Quantize(weights="int2", rounder="brecq")),
    "residual, float activations": (residual, 40, Quantize(weights="int3", activations="float", rounder="brecq")),
    "residual, ternary": (residual, 40, Quantize(weights="ternary", rounder="brecq")),
    "depthwise": (depthwise, 12, Quantize(weights="int3", rounder="brecq")),
    "few samples": (linear, 2, Quantize(weights="int3", rounder="brecq")),
    "one sample": (linear, 1, Quantize(weights="int4", rounder="brecq")),
    "groups, dynamic": (linear, 8, Quantize(weights="nf4", activations="dynamic", granularity=16, rounder="brecq")),
    "transformer": (transformer, 8, Quantize(weights="int3", rounder="brecq")),
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough to learn something."""
    monkeypatch.setattr(learning, "STEPS", 120)
    monkeypatch.setattr(run, "STEPS", 120)


def made(name: str, **changes: Any) -> tuple[Quantized, list[dict[str, np.ndarray]]]:
    build, count, wishes = CASES[name]
    model = prepare(build().clone(), INT8_PASSES)
    feeds = feeds_of(model, count, 1 if name == "one sample" else 4)
    return quantize(model, wishes, lambda: feeds, **changes), feeds


@pytest.mark.parametrize("name", CASES)
def test_a_block_is_never_worse_than_its_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the held-out samples, by the network that the block's own integers make."""
    found: list[tuple[float, float]] = []

    def watched(piece: ir.Model, rounded: Rounded, names: Any, samples: Samples, told: Any) -> Any:
        result, before, after = learning.learned(piece, rounded, names, samples, told)
        found.append((before, after))
        assert loss(piece, rounded, samples) == pytest.approx(before, rel=1e-3, abs=1e-7)
        assert loss(piece, result, samples) == pytest.approx(after, rel=1e-3, abs=1e-7)
        return result, before, after

    monkeypatch.setattr(run, "learned", watched)
    made(name)
    assert found
    assert all(after <= before for before, after in found)
    if name.startswith("residual"):
        assert any(after < before for before, after in found)


def loss(piece: ir.Model, rounded: Rounded, samples: Samples) -> float:
    network, power, rows = Network(piece, rounded, {}), samples.power(), []
    with torch.no_grad():
        for sample in samples.held_out():
            off = network.forward(sample.feeds)
            rows.append(np.mean([float((off[n] - t).square().mean()) / power[n] for n, t in sample.targets.items()]))
    return float(np.mean(rows))


@pytest.mark.parametrize(
    ("build", "ends"),
    [(residual, ["r3", "r5", "y"]), (depthwise, ["e", "y"]), (linear, ["e", "y"]), (transformer, ["g", "r", "y"])],
)
def test_where_blocks_end(build: Callable[[], ir.Model], ends: list[str]) -> None:
    blocks = blocks_of(build())
    assert [block.outputs for block in blocks] == [(end,) for end in ends]
    if build is transformer:
        assert set(blocks[1].inputs) == {"g", "m"}


def test_a_network_without_a_cut_is_one_block() -> None:
    text = "main (float[N,8] x) => (float[N,8] y, float[N,8] z) { a = MatMul(x, u) y = MatMul(a, v) z = MatMul(a, w) }"
    assert [b.outputs for b in blocks_of(model_of(text, u=noise(8, 8), v=noise(8, 8), w=noise(8, 8)))] == [("y", "z")]


@pytest.mark.parametrize("weights", ["int8", "int4", "int2", "ternary", "binary", "nf4"])
def test_weights_move_to_a_neighbour_or_stay(weights: str) -> None:
    model = prepare(linear().clone(), INT8_PASSES)
    start = quantize(model, Quantize(weights=weights, activations="float", rounder="mse")).rounded  # type: ignore[arg-type]
    for name, integers in start.integers.items():
        q, array = start.plan.tensors[name].qparams, model.graph.initializers[name].const_value
        assert q is not None
        assert array is not None
        levels = np.array(getattr(q.scheme, "levels", range(q.scheme.qmin, q.scheme.qmax + 1)))
        for pull in (-50.0, 0.0, 50.0):  # where gradients would take them
            one = SoftWeight(array.numpy(), q, integers.astype(np.int32))
            with torch.no_grad():
                one.doubt += pull
            one.settle(0.0)
            _, found = one.found()
            assert np.isin(found, levels).all()
            apart = np.abs(np.searchsorted(levels, found) - np.searchsorted(levels, integers))
            assert apart.max() == (1 if pull > 0 else 0)
            assert pull <= 0 or apart.min() == 1


@cache
def shipped() -> tuple[Quantized, list[dict[str, np.ndarray]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "STEPS", 120)
        return made("residual")


def test_the_same_samples_give_the_same_integers_scales_and_biases() -> None:
    (first, _), (second, _) = shipped(), made("residual")
    assert first.rounded.plan.to_json() == second.rounded.plan.to_json()
    for store in ("integers", "biases"):
        ours, theirs = getattr(first.rounded, store), getattr(second.rounded, store)
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_both_artifacts_hold_what_was_learned() -> None:
    found, feeds = shipped()
    plan = found.rounded.plan
    assert all("then learned" in plan.tensors[f"w{i}"].why for i in (1, 2))
    quantized = apply(found.model, found.rounded)
    images = {"x": np.concatenate([batch["x"] for batch in feeds])}
    expected = run_onnx(emit_onnx(quantized, plan), images)["y"]
    network = Network(found.model, found.rounded, {})
    with torch.no_grad():
        learned = network.forward({"x": torch.from_numpy(images["x"])})["y"].numpy()
    runner = Interpreter(model_content=emit_tflite(quantized, plan), num_threads=1).get_signature_runner()
    step = float(plan.tensors["y"].qparams.scale)  # type: ignore[union-attr]
    for made_by in (learned, runner(**images)["y"]):
        assert np.abs(np.rint((made_by - expected) / step)).max() <= 1
        assert np.mean(made_by != expected) < 0.02


def test_only_the_layers_that_ask_for_it() -> None:
    model = prepare(residual().clone(), INT8_PASSES)
    feeds = feeds_of(model, 40)
    wishes = Quantize(weights="int2", rounder="gptq", override=[Override("w[124]", rounder="brecq")])
    plan = quantize(model, wishes, lambda: feeds).rounded.plan
    said = {t.name: "learned" in t.why for t in plan.tensors.values() if t.role == "weight"}
    assert said["w1"]
    assert said["w2"]
    assert not any(said[name] for name in ("w3", "w5", "w6"))


def calibrated(model: ir.Model, wishes: Quantize, feeds: list[dict[str, np.ndarray]] | None) -> None:
    quantize(model, wishes, None if feeds is None else lambda: feeds)


def test_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    brecq = Quantize(weights="int4", rounder="brecq")
    model = prepare(linear().clone(), INT8_PASSES)
    feeds = feeds_of(model, 2)
    with pytest.raises(DataError, match="'brecq' needs calibration samples"):
        calibrated(model, replace_activations(brecq, "float"), None)
    with pytest.raises(KbitError, match="int16"):
        calibrated(model, replace_activations(brecq, "int16"), feeds)
    text = "main (float[N,8] x) => (float[N,8] y) { a = MatMul(x, u) b = Hardmax(a) y = MatMul(b, v) }"
    odd = prepare(model_of(text, u=noise(8, 8), v=noise(8, 8)), INT8_PASSES)
    with pytest.raises(KbitError, match="Hardmax"):
        calibrated(odd, replace_activations(brecq, "float"), [{"x": noise(4, 8)}])
    real = builtins.__import__

    def without_torch(name: str, *rest: Any) -> Any:
        if name.startswith("exporter.reconstruction"):
            raise ImportError("No module named 'torch'", name="torch")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(MissingError, match="PyTorch"):
        calibrated(model, brecq, feeds)


def replace_activations(wishes: Quantize, activations: str) -> Quantize:
    return Quantize(weights=wishes.weights, rounder=wishes.rounder, activations=activations)  # type: ignore[arg-type]


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[str, int, int | None]] = []
    made("depthwise", progress=lambda *each: told.append(each))
    steps = [(done, total) for stage, done, total in told if stage == "round"]
    assert steps == sorted(steps)
    assert steps[0][0] < steps[-1][0] == steps[-1][1]


def test_a_block_of_outputs_that_are_no_floats_stays_as_gptq_left_it() -> None:
    text = "main (float[N,8] x) => (bool[N,8] y) { a = MatMul(x, u) b = Relu(a) c = MatMul(b, v) y = Greater(c, b) }"
    model = prepare(model_of(text, u=noise(8, 8), v=noise(8, 8)), INT8_PASSES)
    feeds = feeds_of(model, 4)
    made_by = [
        quantize(model, Quantize(weights="int3", activations="float", rounder=rounder), lambda: feeds)  # type: ignore[arg-type]
        for rounder in ("gptq", "brecq")
    ]
    for name, integers in made_by[0].rounded.integers.items():
        np.testing.assert_array_equal(made_by[1].rounded.integers[name], integers)
