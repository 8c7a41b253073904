"""Sizes that only the run tells: what makes them, what may read them, and results without elements."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.pair import Array, check, same
from tests.ops.test_control import graph

RNG = np.random.default_rng(9)


def few(*shape: int) -> Array:
    """Small whole numbers, many of them equal, as float."""
    return RNG.integers(-3, 4, shape).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64", "uint8", "int8", "bool", "float16"])
def test_non_zero(dtype: str) -> None:
    for x in (few(3, 4), few(7), np.zeros((2, 3, 2), np.float32), few(2, 2, 2, 3)):
        check("NonZero", {"x": np.abs(x).astype(dtype)})


@pytest.mark.parametrize("dtype", ["float32", "int64", "int8"])
@pytest.mark.parametrize("ordered", [0, 1])
def test_unique(ordered: int, dtype: str) -> None:
    for x in (few(3, 5), few(1), few(40)):
        check("Unique", {"x": x.astype(dtype)}, outputs=4, sorted=ordered)
    check("Unique", {"x": few(9).astype(dtype)}, outputs=1, axis=0, sorted=ordered)


def test_compress() -> None:
    x = few(3, 4)
    for condition in ([True, False, True, True], [False] * 4, [True, False]):
        check("Compress", {"x": x, "c": np.asarray(condition)}, axis=1)
        check("Compress", {"x": x, "c": np.asarray(condition)}, axis=1, permuted=True)
    check("Compress", {"x": x, "c": np.asarray([True, False, False, True, True])})


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64", "int16"])
def test_range(dtype: str) -> None:
    for bounds in ((1, 10, 3), (9, -4, -2), (3, 3, 1)):
        check("Range", {n: np.asarray(b, dtype) for n, b in zip("abc", bounds, strict=True)})


def test_filled() -> None:
    value = np.asarray([3], np.int32)
    import onnx

    for shape in ([2, 3], [0, 2], [4]):
        check("ConstantOfShape", {"s": np.asarray(shape)}, value=onnx.numpy_helper.from_array(value))


GRAPHS: dict[str, tuple[str, Mapping[str, Array]]] = {
    "chosen elements": (
        "g (float[4,5] x) => (float[A] y, int64[1] n) { m = Greater(x, one) p = NonZero(m) "
        "t = Transpose<perm=[1,0]>(p) v = GatherND(x, t) w = Mul(v, v) y = Relu(w) n = Shape(v) }",
        {"one": np.float32(1)},
    ),
    "chosen rows": (
        "g (float[6,3] x) => (float[A,3] y, int64 n) { s = ReduceSum<keepdims=0>(x, axis) m = Greater(s, zero) "
        "p = NonZero(m) q = Squeeze(p, first) r = Gather(x, q) y = Concat<axis=0>(r, x) n = Size(r) }",
        {"axis": np.asarray([1]), "zero": np.float32(0), "first": np.asarray([0])},
    ),
    "written back": (
        "g (float[4,5] x) => (float[4,5] y) { m = Less(x, zero) p = NonZero(m) t = Transpose<perm=[1,0]>(p) "
        "v = GatherND(x, t) w = Neg(v) y = ScatterND(x, t, w) }",
        {"zero": np.float32(0)},
    ),
    "a computed slice": (
        "g (float[6,5] x, int64[1] s, int64[1] e) => (float[A,5] y) { y = Slice(x, s, e, axis) }",
        {"axis": np.asarray([0])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GRAPHS)
def test_what_may_read_them(case: str) -> None:
    model = graph(*GRAPHS[case])
    for scale in (1, 0, 2):
        feeds = {v.name: few(*[d.dim_value for d in v.type.tensor_type.shape.dim]) * scale for v in model.graph.input}
        if "s" in feeds:
            feeds |= {"s": np.asarray([scale]), "e": np.asarray([2 * scale + 1])}
        same(model, feeds)


def test_computed_bounds_beyond_every_axis() -> None:
    model = graph(*GRAPHS["a computed slice"])
    for start, end in ((0, 2**62), (-(2**62), 4), (-2, 2**31), (99, 100)):
        same(model, {"x": few(6, 5), "s": np.asarray([start]), "e": np.asarray([end])})


def boxes(count: int, samples: int = 1) -> Array:
    corners = RNG.uniform(0, 1, (samples, count, 4)).astype(np.float32)
    corners[..., 2:] = corners[..., :2] + RNG.uniform(0, 0.5, (samples, count, 2)).astype(np.float32)
    return corners


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("center", [0, 1])
def test_non_max_suppression(samples: int, center: int) -> None:
    """Scores of few values: equal ones come in the order of their boxes."""
    for _ in range(5):
        inputs = {
            "b": boxes(30, samples),
            "s": (RNG.integers(0, 5, (samples, 3, 30)) / 5).astype(np.float32),
            "m": np.asarray([7]),
            "i": np.float32([0.3]),
            "t": np.float32([0.5]),
        }
        check("NonMaxSuppression", inputs, constants=["m", "i", "t"], center_point_box=center)
        check("NonMaxSuppression", inputs, constants=["m", "i"], center_point_box=center)
    nothing = {**inputs, "t": np.float32([2])}
    check("NonMaxSuppression", nothing, constants=["m", "i", "t"])


REFUSED: dict[str, tuple[str, Mapping[str, Array], str]] = {
    "a matrix product": (
        "g (float[4,5] x) => (float[A,B] y) { m = Greater(x, one) p = NonZero(m) f = Cast<to=1>(p) y = MatMul(k, f) }",
        {"one": np.float32(1), "k": np.ones((3, 2), np.float32)},
        "dimension 1 of 'f' is computed at run time",
    ),
    "boxes without a limit that is known": (
        "g (float[1,6,4] b, float[1,2,6] s, int64[1] m) => (int64[A,3] y) { y = NonMaxSuppression(b, s, m) }",
        {},
        "max_output_boxes_per_class",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    text, constants, reason = REFUSED[case]
    with pytest.raises(UnsupportedError, match=reason):
        emit_tflite(from_proto(graph(text, constants)))
