"""Numbers and shapes that follow the batch: computed at run time, or refused."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from exporter.emit._batch import Affine, Counting, Rising, Spread, law_of, sized
from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.pair import Array, run_onnx, run_tflite
from tests.ops.test_control import graph

RNG = np.random.default_rng(2)
B = "s = Shape<start=0, end=1>(x) "
I64 = np.int64
WORKS: dict[str, tuple[str, Mapping[str, Array]]] = {
    "a class token": (
        f"g (float[N,3,4] x) => (float[N,4,4] y) {{ {B} t = Concat<axis=0>(s, rest) c = Expand(token, t) "
        "y = Concat<axis=1>(c, x) }",
        {"rest": np.asarray([1, 4]), "token": np.arange(4, dtype=np.float32).reshape(1, 1, 4)},
    ),
    "a constant for each sample": (
        f"g (float[N,3] x) => (float[N,2] y) {{ {B} t = Concat<axis=0>(s, two) y = Expand(k, t) }}",
        {"two": np.asarray([2]), "k": np.float32([[1, 2]])},
    ),
    "zeros beside the input": (
        f"g (float[N,3] x) => (float[N,5] y) {{ {B} t = Concat<axis=0>(s, two) z = ConstantOfShape(t) "
        "y = Concat<axis=1>(x, z) }",
        {"two": np.asarray([2])},
    ),
    "a mask expanded to the batch": (
        f"g (float[N,3,3] x) => (float[N,3,3] y) {{ {B} t = Concat<axis=0>(s, rest) m = Expand(mask, t) "
        "y = Where(m, x, low) }",
        {"rest": np.asarray([3, 3]), "mask": np.tri(3, dtype=bool)[None], "low": np.float32(-9)},
    ),
    "two constants expanded and added": (
        f"g (float[N,3] x) => (float[N,3] y) {{ {B} t = Concat<axis=0>(s, three) a = Expand(k, t) b = Expand(l, t) "
        "y = Add(a, b) }",
        {"three": np.asarray([3]), "k": np.float32([[1, 2, 3]]), "l": np.float32([[1], [2]])[:1]},
    ),
    "one element of each sample": (
        f"g (float[N,5] x, int64[N] i) => (float[N] y) {{ {B} n = Squeeze(s, zero1) r = Range(zero, n, one) "
        "a = Unsqueeze(r, one1) b = Unsqueeze(i, one1) p = Concat<axis=1>(a, b) y = GatherND(x, p) }",
        {"zero": I64(0), "one": I64(1), "zero1": np.asarray([0]), "one1": np.asarray([1])},
    ),
    "one sample for all": (
        f"g (float[N,5] x) => (float[N,5] y) {{ f = Slice(x, zero, one, zero) {B} t = Concat<axis=0>(s, one) "
        "r = Tile(f, t) y = Sub(x, r) }",
        {"zero": np.asarray([0]), "one": np.asarray([1])},
    ),
    "the last sample": (
        f"g (float[N,5] x) => (float[1,5] y) {{ {B} l = Sub(s, one) y = Slice(x, l, s, zero) }}",
        {"zero": np.asarray([0]), "one": np.asarray([1])},
    ),
    "every element by its place, as as_strided is exported": (
        f"g (float[N,2,3] x) => (float[N,6,1] y) {{ {B} n = Squeeze(s, zero1) r = Range(zero, n, one) m = Mul(r, six) "
        "u = Unsqueeze(m, last) i = Add(u, places) f = Reshape(x, flat) y = Gather(f, i) }",
        {"zero": I64(0), "one": I64(1), "zero1": np.asarray([0]), "six": I64(6), "last": np.asarray([1, 2]),
         "places": np.arange(6)[None, ::-1, None].copy(), "flat": np.asarray([-1])},
    ),
    "a product of constants of each sample": (
        f"g (float[N,6,8] x) => (float[N,6,8] y) {{ {B} t = Concat<axis=0>(s, rest) q = Expand(k, t) p = MatMul(q, w) "
        "y = Add(x, p) }",
        {"rest": np.asarray([6, 64]), "k": RNG.standard_normal((1, 6, 64), np.float32) / 8,
         "w": RNG.standard_normal((64, 8), np.float32) / 8},
    ),
    "as many rows of a table": (
        f"g (float[N,5] x) => (float[N,5] y) {{ {B} t = Relu(table) r = Slice(t, zero, s, zero) y = Mul(x, r) }}",
        {"zero": np.asarray([0]), "table": np.ones((200, 5), np.float32)},
    ),
    "twice the batch": ("g (float[N,5] x) => (float[M,5] y) { n = Neg(x) y = Concat<axis=0>(x, n) }", {}),
    "the shape": ("g (float[N,5] x) => (int64[2] y, int64 n) { y = Shape(x) n = Size(x) }", {}),
    "the batch in an inner dimension": (
        f"g (float[N,6,4] x) => (float[N,A,4] y) {{ {B} t = Concat<axis=0>(m, s, rest) r = Reshape(x, t) "
        "u = ReduceMax<keepdims=1>(r, zero) d = Sub(r, u) y = Reshape(d, back) }",
        {"m": np.asarray([2]), "rest": np.asarray([3, 4]), "zero": np.asarray([0]), "back": np.asarray([-1, 6, 4])},
    ),
    "positions in float": (
        f"g (float[N,3] x) => (float[N,3] y) {{ {B} n = Squeeze(s, zero1) r = Range(zero, n, one) f = Cast<to=1>(r) "
        "c = Unsqueeze(f, one1) y = Add(x, c) }",
        {"zero": I64(0), "one": I64(1), "zero1": np.asarray([0]), "one1": np.asarray([1])},
    ),
    "a mask of Dropout": ("g (float[N,3] x) => (float[N,3] y, bool[N,3] m) { y, m = Dropout(x) }", {}),
}  # fmt: skip


@pytest.mark.parametrize("case", WORKS)
def test_any_batch(case: str) -> None:
    model = graph(*WORKS[case])
    data = emit_tflite(from_proto(model))
    for batch in (1, 2, 5, 101):
        feeds: dict[str, Array] = {}
        for value in model.graph.input:
            shape = [d.dim_value or batch for d in value.type.tensor_type.shape.dim]
            integer = value.type.tensor_type.elem_type == 7
            feeds[value.name] = RNG.integers(0, 5, shape) if integer else RNG.standard_normal(shape).astype(np.float32)
        found = run_tflite(data, feeds)
        for value, expected in zip(model.graph.output, run_onnx(model, feeds), strict=True):
            assert found[value.name].dtype == expected.dtype
            np.testing.assert_allclose(found[value.name], expected, rtol=1e-6, atol=1e-6, err_msg=f"batch {batch}")


REFUSED: dict[str, tuple[str, Mapping[str, Array], str]] = {
    "half of the batch": (
        f"g (float[N,5] x) => (float[M,5] y) {{ {B} h = Div(s, two) y = Slice(x, zero, h, zero) }}",
        {"zero": np.asarray([0]), "two": np.asarray([2])},
        "its numbers are computed from the batch",
    ),
    "a bound on the batch": (
        f"g (float[N,5] x) => (float[M,5] y) {{ {B} h = Min(s, eight) y = Slice(x, zero, h, zero) }}",
        {"zero": np.asarray([0]), "eight": np.asarray([8])},
        "its numbers are computed from the batch",
    ),
    "its reciprocal": (
        f"g (float[N,5] x) => (float[N,5] y) {{ {B} f = Cast<to=1>(s) r = Reciprocal(f) y = Mul(x, r) }}",
        {},
        "its numbers are computed from the batch",
    ),
    "a branch for a batch of one": (
        f"g (float[N,5] x) => (float[N,5] y) {{ {B} o = Equal(s, one) y = If (o) "
        "<then_branch = a () => (float[N,5] t) { t = Neg(x) }, else_branch = b () => (float[N,5] e) { e = Abs(x) }> }",
        {"one": np.asarray([1])},
        "other operators",
    ),
    "two dynamic dimensions": (
        "g (float[N,5] x, float[M,5] z) => (float[N,5] y, int64[1] s) { y = Neg(x) s = Shape<start=0, end=1>(z) }",
        {},
        "several dynamic dimensions",
    ),
    "a Squeeze that may take the batch": (
        "g (float[N,1,5] x) => (float[N,5] y) { y = Squeeze(x) }",
        {},
        "name the axes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    text, constants, reason = REFUSED[case]
    with pytest.raises(UnsupportedError, match=reason):
        emit_tflite(from_proto(graph(text, constants)))


def test_laws() -> None:
    batches = (2, 3, 97)
    affine = law_of({b: np.asarray([b, 4, 2 * b - 1]) for b in batches})
    assert isinstance(affine, Affine)
    assert (affine.start.tolist(), affine.step.tolist()) == ([0, 4, -1], [1, 0, 2])
    spread = law_of({b: np.full((1, b + 1, 2), 7.0, np.float32) for b in batches})
    assert isinstance(spread, Spread)
    assert (spread.axis, spread.start, spread.step) == (1, 1, 1)
    assert law_of({b: np.arange(3, 3 + 2 * b, 2) for b in batches}) == Counting(3, 2, 0, 1, 0, 1)
    rising = law_of({b: np.arange(4) + 6 * np.arange(b)[:, None] for b in batches})
    assert isinstance(rising, Rising)
    assert (rising.row.tolist(), rising.stride, rising.axis, rising.start, rising.step) == ([[0, 1, 2, 3]], 6, 0, 0, 1)
    rounded = law_of({b: np.full((b, 2), 3.0, np.float32) * np.float32(1 + 1e-7 * b) for b in (*batches[:2], 5)})
    assert isinstance(rounded, Spread)
    assert law_of({b: np.full((b, 2), 1 / b, np.float32) for b in batches}) is None
    assert law_of({b: np.arange(4) * np.arange(b)[:, None] for b in batches}) is None
    assert law_of({b: np.asarray(b * b) for b in batches}) is None
    assert law_of({b: np.asarray(min(b, 9)) for b in batches}) is None
    assert law_of({b: np.asarray(1 / b) for b in batches}) is None
    assert law_of({b: np.arange(b) ** 2 for b in batches}) is None
    assert law_of({b: np.zeros((b, b)) for b in batches}) is None


def test_sizes() -> None:
    size = sized({2: (2, 5, 9), 3: (3, 5, 14), 97: (97, 5, 484)})
    assert size is not None
    assert (size.shape, size.dynamic, size.growth) == ((1, 5, 4), {0, 2}, (1, 0, 5))
    assert sized({2: (2, 5), 3: (3,)}) is None
