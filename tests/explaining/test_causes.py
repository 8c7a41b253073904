"""Every named cause on a small network that has it, through the real stages; none on one that has nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from exporter.explaining import causes, shares
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantization import Quantized, quantize
from exporter.quantize import apply
from exporter.recipe import Quantize, from_dict
from exporter.reference import layer_errors, run
from tests.quantize.graphs import model_of

RNG = np.random.default_rng(0)


def noise(*shape: int, times: float = 1.0) -> np.ndarray:
    return (times * RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)


def images(count: int = 64) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 4, 8, 8)).astype(np.float32)


def scaled(weight: np.ndarray, *channels: int, by: float) -> np.ndarray:
    weight = weight.copy()
    weight[list(channels)] *= np.float32(by)
    return weight


HEAD = "net (float[N,4,8,8] x) => (float[N,8,8,8] y) "
CONV = "Conv <pads = [1,1,1,1]>"
PLAIN = HEAD + f"{{ a = {CONV} (x, w) b = Relu (a) y = {CONV} (b, v) }}"
W, V = noise(8, 4, 3, 3), noise(8, 8, 3, 3)

# kind -> (network, weights, wishes, part of what is said)
CASES: dict[str, tuple[str, dict[str, np.ndarray], Quantize, str]] = {
    "outlier channel": (PLAIN, {"w": scaled(W, 3, by=40), "v": V}, Quantize(), "channel 3 reaches"),
    "swish range": (
        HEAD + f"{{ a = {CONV} (x, w) s = Sigmoid (a) b = Mul (a, s) y = {CONV} (b, v) }}",
        {"w": 30 * W, "v": V}, Quantize(), "all that is negative has",
    ),
    "dead channels": (PLAIN, {"w": scaled(W, 1, 2, by=1e-3), "v": V}, Quantize(granularity="tensor"), "2 of 8"),
    "softmax mask": (
        HEAD + f"{{ a = {CONV} (x, w) b = Add (a, m) c = Softmax <axis = -1> (b) y = {CONV} (c, v) }}",
        {"w": W, "v": V, "m": np.where(np.arange(8) < 6, 0, -1e4).astype(np.float32)}, Quantize(), "the mask takes all",
    ),
    "clipped logits": (PLAIN, {"w": W, "v": V}, Quantize(observer="entropy"), "lie at an end of its grid"),
    "unlike addends": (
        HEAD + f"{{ a = {CONV} (x, w) b = {CONV} (x, u) c = Add (a, b) y = {CONV} (c, v) }}",
        {"w": W, "u": noise(8, 4, 3, 3, times=0.02), "v": V}, Quantize(), "its addends have steps",
    ),
    "few bits": (PLAIN, {"w": W, "v": V}, Quantize(weights="int2", rounder="mse"), "2 of 2 weights stand less than"),
}  # fmt: skip


def quantized(text: str, weights: dict[str, np.ndarray], wishes: Quantize) -> Quantized:
    def batches() -> Iterator[dict[str, Any]]:
        yield {"x": images()}

    return quantize(prepare(model_of(text, **weights), INT8_PASSES), wishes, batches)


def named(found: Quantized, spoil: Callable[[np.ndarray], np.ndarray] = lambda a: a) -> list[Any]:
    plan = found.rounded.plan
    errors = layer_errors(found.model, apply(found.model, found.rounded), plan, [{"x": spoil(images())}])
    return causes(found.model, found.rounded, found.stats, errors)


@pytest.mark.parametrize("kind", CASES)
def test_causes(kind: str) -> None:
    text, weights, wishes, words = CASES[kind]
    spoil = (lambda a: 3 * a) if kind == "clipped logits" else (lambda a: a)
    rows = [row for row in named(quantized(text, weights, wishes), spoil) if row.kind == kind]
    assert rows
    assert words in rows[0].found
    assert rows[0].remedy


@pytest.mark.parametrize(("rounder", "words"), [("nearest", 'rounder = "gptq"'), ("gptq", "more bits where")])
def test_few_bits_are_answered_by_what_was_not_tried(rounder: Any, words: str) -> None:
    (row,) = named(quantized(PLAIN, {"w": W, "v": V}, Quantize(weights="int3", rounder=rounder)))
    assert row.kind == "few bits"
    assert row.remedy.startswith(words)


def test_a_plain_network_has_none() -> None:
    assert named(quantized(PLAIN, {"w": W, "v": V}, Quantize())) == []


def test_shares_find_the_layer_that_costs() -> None:
    """One layer at 2 bits among layers at 8."""
    text = HEAD + "{ " + f"a = {CONV} (x, w) b = Relu (a) c = {CONV} (b, u) d = Relu (c) y = {CONV} (d, v)" + " }"
    override = [{"match": "u", "weights": "int2", "rounder": "nearest"}]
    wishes = from_dict({"model": {"source": "-"}, "quantize": {"override": override}}).quantize
    found = quantized(text, {"w": W, "u": noise(8, 8, 3, 3), "v": V}, wishes)
    batch = {"x": images()}
    rows, whole = shares(found, [batch], None, "mse")
    assert [row.weight for row in rows] == ["w", "u", "v"]
    guilty = rows[1]
    assert guilty.alone > 20 * max(rows[0].alone, rows[2].alone)
    assert guilty.without < 0.1 * whole
    assert all(row.points_alone is None for row in rows)
    exact, own = run(found.model, batch)["y"], run(apply(found.model, found.rounded), batch)["y"]
    assert whole == pytest.approx(float(((exact - own) ** 2).sum() / (exact**2).sum()), rel=1e-3)


def test_a_layer_in_float_is_the_float_layer() -> None:
    """With the only layer back, nothing is left of the loss."""
    found = quantized(HEAD + f"{{ y = {CONV} (x, w) }}", {"w": W}, Quantize(weights="int3"))
    rows, whole = shares(found, [{"x": images()}], np.zeros(64, int), "mse")
    assert len(rows) == 1
    assert whole > 0
    assert rows[0].without < 0.05 * whole, "what the input's own quantization costs"
