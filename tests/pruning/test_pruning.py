"""Pruning: what is removed was not needed, what hangs together goes together, and both files become smaller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import exporter
from exporter import graph
from exporter.errors import RecipeError
from exporter.pruning import prune
from exporter.recipe import Prune
from tests.numbers import noise
from tests.pruning.dead import deadened
from tests.quantize.graphs import model_of, run

HEAD = "main (float[N,4,8,8] x) => (float[N,3] y) "
TAIL = " g = GlobalAveragePool(z) f = Flatten(g) y = Gemm(f, v, e) }"
CASES = {
    "chain": "{ a = CONV(x, w, b) r = Relu(a) z = CONV(r, w8, b)" + TAIL,
    "residual": "{ a = CONV(x, w, b) r = Relu(a) c = CONV(r, w8, b) h = Relu(c) i = CONV(h, u8, b2) z = Add(i, r)"
                + TAIL,
    "concat": "{ a = CONV(x, w, b) c = CONV(x, u, b2) k = Concat<axis=1>(a, c) z = CONV(k, w16, b)" + TAIL,
    "depthwise": "{ a = CONV(x, w, b) o = Conv<pads=[1,1,1,1], group=8>(a, d, b2) z = CONV(o, w8, b)" + TAIL,
    "padded shortcut": "{ a = CONV(x, w, b) s = Pad(a, pads) c = CONV(a, p16) z = Add(s, c)"
                       + TAIL.replace("v,", "v16,"),
    "gate": "{ a = CONV(x, w, b) m = GlobalAveragePool(a) q = Conv(m, k8, b2) h = Sigmoid(q) z = Mul(a, h)" + TAIL,
    "scale, slope": "{ a = CONV(x, w, b) m = Mul(a, each) z = PRelu(m, slope)" + TAIL,
    "norm": "{ a = CONV(x, w, b) z = BatchNormalization(a, b2, b3, mean, positive)" + TAIL,
    "split": "{ a = CONV(x, w16x, b16) p, q = Split<axis=1>(a, sizes) z = Add(p, q)" + TAIL,
    "wide flatten": "{ a = CONV(x, w, b) m = MaxPool<kernel_shape=[4,4], strides=[4,4]>(a) s = Reshape(m, flat) "
                    "y = Gemm(s, v32, e) }",
    "transposed": "{ a = ConvTranspose<strides=[2,2]>(x, t, b) z = CONV(a, w8, b)" + TAIL,
    "tokens": "{ a = MatMul(x, up) h = Add(a, b16) r = Relu(h) c = MatMul(r, down) n = Add(c, b) z = Add(n, x)"
              + TAIL.replace("v,", "v4,"),
    "gated tokens": "{ a = MatMul(x, up) h = Sigmoid(a) g1 = MatMul(x, up2) r = Mul(h, g1) z = MatMul(r, down)"
                    + TAIL.replace("v,", "v4,"),
    "rows of tokens": "{ s = Reshape(x, to8) a = Gemm(s, up, b16) m = Reshape(a, back16) r = Relu(m) "
                      "l = Reshape(r, to16) c = Gemm(l, down, b) n = Reshape(c, back8) z = Add(n, x)"
                      + TAIL.replace("v,", "v4,"),
    "mean": "{ a = CONV(x, w, b) m = ReduceMean<keepdims=0>(a, axes) y = MatMul(m, v) }",
}  # fmt: skip
ARRAYS = {
    "u8x": noise(8, 8, 3, 3), "w": noise(8, 4, 3, 3),
    "u": noise(8, 4, 3, 3), "w8": noise(8, 8, 3, 3), "u8": noise(8, 8, 3, 3), "b": noise(8),
    "b2": noise(8), "v": noise(8, 3), "e": noise(3), "w16": noise(8, 16, 3, 3), "d": noise(8, 1, 3, 3),
    "p16": noise(16, 8, 3, 3), "v16": noise(16, 3), "k8": noise(8, 8, 1, 1), "each": noise(1, 8, 1, 1),
    "slope": noise(8, 1, 1), "positive": np.abs(noise(8)) + 0.5, "b3": noise(8), "mean": noise(8),
    "w16x": noise(16, 4, 3, 3), "b16": noise(16),
    "v32": noise(32, 3), "t": noise(4, 8, 2, 2), "pads": np.array([0, 4, 0, 0, 0, 4, 0, 0], np.int64),
    "sizes": np.array([8, 8], np.int64), "flat": np.array([-1, 32], np.int64), "axes": np.array([2, 3], np.int64),
    "up": noise(8, 16), "up2": noise(8, 16), "down": noise(16, 8), "v4": noise(4, 3),
    "to8": np.array([-1, 8], np.int64), "back16": np.array([-1, 4, 8, 16], np.int64),
    "to16": np.array([-1, 16], np.int64), "back8": np.array([-1, 4, 8, 8], np.int64),
    "channel": np.array([1], np.int64),
}  # fmt: skip
X = {"x": noise(5, 4, 8, 8)}


def build(name: str) -> ir.Model:
    return graph_of(HEAD + CASES[name])


def graph_of(text: str) -> ir.Model:
    text = text.replace("CONV", "Conv<pads=[1,1,1,1]>")
    words = set(text.replace(",", " ").replace("(", " ").replace(")", " ").split())
    return model_of(text, **{name: array for name, array in ARRAYS.items() if name in words})


@pytest.mark.parametrize("name", CASES)
def test_channels_go_with_all_that_hangs_on_them(name: str) -> None:
    model = deadened(build(name), 2)
    found = prune(model, Prune(method="channels", amount=0.2, multiple=1), [X])
    assert found.facts.multiply_adds <= 0.8 * found.facts.multiply_adds_before
    np.testing.assert_allclose(run(found.model, X)["y"], run(model, X)["y"], rtol=1e-4, atol=1e-4)
    size = lambda one: sum(v.const_value.size for v in one.graph.initializers.values())  # noqa: E731
    assert size(found.model) < size(model)


@pytest.mark.parametrize(
    ("name", "each"),
    [
        ("chain", 64 * 4 * 8 * 9 + 64 * 8 * 8 * 9 + 8 * 3),
        ("wide flatten", 64 * 4 * 8 * 9 + 32 * 3),
        ("tokens", 32 * (8 * 16 + 16 * 8) + 4 * 3),
        ("rows of tokens", 32 * (8 * 16 + 16 * 8) + 4 * 3),
    ],
)
def test_multiply_adds_are_those_of_one_sample(name: str, each: int) -> None:
    found = prune(build(name), Prune(method="channels", amount=0.1, multiple=1), [X])
    assert found.facts.multiply_adds_before == each


def test_a_norm_of_tokens_is_not_one_of_channels() -> None:
    """As many tokens as hidden channels: the norm's numbers are those of the tokens."""
    square = {"up": noise(4, 8), "down": noise(8, 4), "b2": noise(8), "b3": noise(8), "mean": noise(8)}
    text = """main (float[N,8,4] x) => (float[N,4] y) { a = MatMul(x, up)
        h = BatchNormalization(a, b2, b3, mean, positive) z = MatMul(h, down)
        y = ReduceMean<keepdims=0>(z, channel) }"""
    model = model_of(text, **square, positive=ARRAYS["positive"], channel=ARRAYS["channel"])
    with pytest.raises(RecipeError, match="none can be removed"):
        prune(model, Prune(method="channels", amount=0.2, multiple=1), [{"x": noise(5, 8, 4)}])


def test_the_least_important_go_by_lots() -> None:
    found = prune(build("residual"), Prune(method="channels", amount=0.3, multiple=4), [X])
    shapes = {n: tuple(found.model.graph.initializers[n].shape or ()) for n in ("w", "w8", "u8")}
    assert all(n % 4 == 0 for shape in shapes.values() for n in shape[:2])
    assert shapes["w"][0] == shapes["u8"][0] == shapes["w8"][1]


@pytest.mark.parametrize(
    "text",
    [
        "main (float[N,4,8,8] x) => (float[N,8,8,8] y) { y = CONV(x, w, b) }",
        "main (float[N,4,8,8] x) => (float[N,1,8,8] y) { a = CONV(x, w, b) h = Softmax<axis=1>(a) "
        "y = ReduceMean<keepdims=1>(h, channel) }",
    ],
    ids=["the output", "an operator without a rule"],
)
def test_what_must_stay_stays(text: str) -> None:
    with pytest.raises(RecipeError, match="none can be removed"):
        prune(graph_of(text), Prune(method="channels", amount=0.2, multiple=1), [X])


BRANCH = """{ a = CONV(x, w, b) r = Relu(a) c = CONV(r, w8) h = Relu(c) i = CONV(h, u8, b2) SUM q = Relu(s)
    z = CONV(q, u8x, b3)"""


@pytest.mark.parametrize("multiple", [4, 8])
def test_a_branch_that_gives_nothing_goes_altogether(multiple: int) -> None:
    model = graph_of(HEAD + BRANCH.replace("SUM", "s = Add(i, r)") + TAIL)
    for name in ("w8", "u8", "b2"):
        value = model.graph.initializers[name]
        value.const_value = ir.tensor(np.zeros_like(np.array(graph.constant(value))), name=name)
    found = prune(model, Prune(method="channels", amount=0.5, multiple=multiple), [X])
    assert [n.op_type for n in found.model.graph] == ["Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert not {"w8", "u8"} & set(found.model.graph.initializers)
    np.testing.assert_allclose(run(found.model, X)["y"], run(model, X)["y"], rtol=1e-4, atol=1e-4)
    assert found.facts.multiply_adds / found.facts.multiply_adds_before == pytest.approx((32 + 64) / 224, abs=1e-3)


@pytest.mark.parametrize("ending", ["s = Mul(i, r)", "s = Concat<axis=1>(i, r)", "m = Add(i, r) s = Add(m, h)"])
def test_a_branch_that_more_depends_on_keeps_a_lot(ending: str) -> None:
    text = BRANCH.replace("SUM", ending).replace("u8x", "w16" if "Concat" in ending else "u8x")
    model = graph_of(HEAD + text + TAIL)
    most = prune(model, Prune(method="channels", amount=0.2, multiple=4), [X])
    kinds = [n.op_type for n in most.model.graph]
    assert kinds == [n.op_type for n in model.graph]


def test_magnitude_takes_the_share_asked_for() -> None:
    found = prune(build("residual"), Prune(method="magnitude", amount=0.4))
    assert found.facts.zeros == pytest.approx(0.4, abs=1e-3)
    for name, mask in found.masks.items():
        array = np.asarray(graph.constant(found.model.graph.initializers[name]))
        assert not array[~mask].any()
        before = np.abs(ARRAYS[name])
        assert before[mask].min(initial=np.inf) >= before[~mask].max(initial=0), "the smallest of each layer"


@pytest.mark.parametrize("pattern", ["2:4", "1:2", "4:8"])
def test_a_pattern_holds_in_every_group(pattern: str) -> None:
    keep, of = map(int, pattern.split(":"))
    found = prune(build("chain"), Prune(method=pattern))  # type: ignore[arg-type]
    mask = np.moveaxis(found.masks["w8"], 1, -1).reshape(-1, of)
    assert (mask.sum(axis=1) == keep).all()
    assert found.masks["v"].T.reshape(-1, of).sum(axis=1).tolist() == [keep] * (24 // of)


def export(out: Path, **keys: Any) -> exporter.Bundle:
    onnx.save(ir.to_proto(build("residual")), out.parent / "net.onnx")
    data = {"x": noise(64, 4, 8, 8)}
    labels = run(build("residual"), data)["y"].argmax(1)
    given = {"calibration": data, "evaluation": {**data, "labels": labels}, **keys}
    return exporter.export(out.parent / "net.onnx", out=out, **given)


def test_removed_channels_make_both_files_smaller_and_training_follows(tmp_path: Path) -> None:
    whole = export(tmp_path / "whole")
    training = {"finetune": {"x": noise(96, 4, 8, 8)}, "prune_epochs": 2, "epochs": 1}
    small = export(tmp_path / "small", prune="channels", prune_amount=0.3, prune_multiple=4, **training)
    for name in ("onnxruntime", "tflite"):
        assert small.artifact(name).stat().st_size < whole.artifact(name).stat().st_size
    analysis = json.loads((small.path / "analysis.json").read_text())
    assert [history["stage"] for history in analysis["training"]] == ["prune", "finetune"]
    assert analysis["pruning"]["multiply_adds"] <= 0.7 * analysis["pruning"]["multiply_adds_before"]
    check = json.loads((small.path / "check.json").read_text())
    assert check["agreement"]["equal"] == 1
    for name in ("onnxruntime", "tflite"):
        assert check["artifacts"][name]["metric"] == pytest.approx(analysis["training"][-1]["metric"], abs=0.1)
    assert "What was pruned" in (small.path / "report.html").read_text()


def test_zeros_stay_zeros_in_the_artifact(tmp_path: Path) -> None:
    training = {"finetune": {"x": noise(96, 4, 8, 8)}, "prune_epochs": 0, "epochs": 1}
    bundle = export(tmp_path / "out", prune="2:4", weights="int4", **training)
    body = onnx.load(bundle.artifact("onnxruntime")).graph
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in body.initializer}
    (weight,) = [a for n, a in stored.items() if n.startswith("w8") and a.shape == (8, 8, 3, 3)]
    zeros = np.moveaxis(weight.astype(np.int32) == 0, 1, -1).reshape(-1, 4).sum(axis=1)
    assert (zeros >= 2).all()


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"prune": "channels", "calibration": None, "weights": "float", "activations": "float"}, "data.calibration"),
        ({"prune": "2:4", "rounder": "gptq"}, "must stay zero"),
        ({"prune": "channels", "prune_amount": 0.99, "prune_multiple": 4}, "can be removed"),
    ],
)
def test_a_mistake_is_one_line(keys: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=line):
        export(tmp_path / "out", **keys)
    assert not (tmp_path / "out").exists()
