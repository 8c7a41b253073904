"""Shapes: a batch that may grow, chains of old exporters that compute shapes, numbers that depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.errors import UnsupportedError
from tests.quantize.graphs import model_of, run

ONE = np.array([1], np.int64)
ZERO = np.array([0], np.int64)

WORKS = {
    "flatten by Shape, Gather, Unsqueeze, Concat": (
        "main (float[N,3,4] x) => (float[N,A] y) { s = Shape(x) b = Gather(s, first) c = Unsqueeze(b, zero) "
        "t = Concat<axis=0>(c, rest) y = Reshape(x, t) }",
        {"first": np.int64(0), "zero": ZERO, "rest": np.array([-1], np.int64)},
    ),
    "the batch in the middle of a Reshape": (
        "main (float[N,4,6] x) => (float[A,B] y) { y = Reshape(x, t) }",
        {"t": np.array([-1, 6], np.int64)},
    ),
    "a constant of as many rows as the batch": (
        "main (float[N,4] x) => (float[N,4] y) { s = Shape(x) o = Expand(two, s) "
        "y = Mul(x, o) }",
        {"two": np.float32(2)},
    ),
    "a mean written with the batch as divisor": (
        "main (float[N,4] x) => (float[N,4] y) { s = Shape<start=0, end=1>(x) n = Cast<to=1>(s) y = Div(x, n) }",
        {},
    ),
    "a transposed weight": (
        "main (float[N,8] x) => (float[N,4] y) { t = Transpose<perm=[1,0]>(w) y = MatMul(x, t) }",
        {"w": np.arange(32, dtype=np.float32).reshape(4, 8)},
    ),
}  # fmt: skip

REFUSED = {
    "a second dynamic dimension": (
        "main (float[N,T] x) => (float[N,T] y) { y = Relu(x) }",
        {},
        "dimension 1 is dynamic",
    ),
}


@pytest.mark.parametrize("name", WORKS)
def test_any_batch(name: str) -> None:
    text, arrays = WORKS[name]
    model = model_of(text, **arrays)
    data = emit_tflite(model)
    shape = [d if isinstance(d, int) else None for d in model.graph.inputs[0].shape or ()]
    for batch in (1, 2, 5):
        feeds = {"x": np.random.default_rng(0).standard_normal([d or batch for d in shape]).astype(np.float32)}
        actual = Interpreter(model_content=data).get_signature_runner()(**feeds)["y"]
        np.testing.assert_allclose(actual, run(model, feeds)["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, arrays, reason = REFUSED[name]
    with pytest.raises(UnsupportedError, match=reason):
        emit_tflite(model_of(text, **arrays))


def test_a_transposed_weight_of_any_size_is_a_constant() -> None:
    weight = np.random.default_rng(0).standard_normal((2100, 2100)).astype(np.float32)  # more than is folded
    model = model_of("main (float[N,2100] x) => (float[N,2100] y) { t = Transpose(w) y = MatMul(x, t) }", w=weight)
    assert [o.code for o in read_tflite(emit_tflite(model)).operators] == ["FULLY_CONNECTED"]
