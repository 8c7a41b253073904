"""Operators of two and more numbers: every element type to its limits, layouts, batches, ranks."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from exporter.ops import OPS
from tests.ops.pair import Array, check, model_of

RNG = np.random.default_rng(17)
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
REAL = ("float32", "float16", "bfloat16")


def numbers(dtype: str, shape: tuple[int, ...], *, whole: bool = False, small: bool = False) -> Array:
    """Random; integers over their whole range, or (``small``) between -9 and 9."""
    if dtype == "bool":
        return RNG.integers(0, 2, shape).astype(bool)
    if dtype in REAL:
        real = RNG.integers(-9, 10, shape) if whole else RNG.normal(0, 3, shape)
        return real.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    info = np.iinfo(dtype)
    low, high = (max(info.min, -9), 9) if small else (info.min, info.max)
    return RNG.integers(low, high, shape, dtype, endpoint=True)


def nonzero(array: Array) -> Array:
    return np.where(array == 0, np.asarray(1, array.dtype), array)


ARITHMETIC = ("Add", "Sub", "Mul", "Min", "Max", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")


@pytest.mark.parametrize("dtype", [*WHOLE, *REAL])
@pytest.mark.parametrize("op", ARITHMETIC)
def test_types(op: str, dtype: str) -> None:
    a, b = numbers(dtype, (3, 40)), numbers(dtype, (40,))
    a.flat[:6], b[3:6] = b[:6], a.flat[3:6]  # some are equal
    check(op, {"a": a, "b": b}, permuted=dtype in {"int8", "float16"})
    check(op, {"a": a, "b": b}, constants=["b"])


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", *REAL])
@pytest.mark.parametrize("op", ["Div", "Mod", "Mod of C"])
def test_quotients(op: str, dtype: str) -> None:
    fmod = {"fmod": 1} if op == "Mod of C" or (op == "Mod" and dtype in REAL) else {}
    for small in (False, True):  # both large; large by small; small by large
        for b in (nonzero(numbers(dtype, (200,), small=small)), nonzero(numbers(dtype, (200,)))):
            a = numbers(dtype, (3, 200), small=not small)
            a = np.where((a == np.asarray(np.iinfo(dtype).min if dtype in WHOLE else 0, a.dtype)) & (b == -1), b, a)
            check(op.split(maxsplit=1)[0], {"a": a, "b": b}, **fmod)


def test_long_division_is_exact() -> None:
    edges = np.array([1, 2, 3, 7, 2**24 + 1, 2**31, 2**53 + 1, 2**62, 2**63 - 1], np.int64)
    edges = np.concatenate([edges, -edges, [-(2**63)]])
    a, b = (x.ravel() for x in np.meshgrid(edges, edges[edges != -(2**63)]))
    keep = ~((a == -(2**63)) & (b == -1))
    a, b = a[keep], b[keep]
    check("Div", {"a": a, "b": b})
    check("Mod", {"a": a, "b": b})
    check("Mod", {"a": a, "b": b}, fmod=1)


@pytest.mark.parametrize("op", ["Min", "Max", "Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_inputs(op: str, count: int) -> None:
    shapes = [(2, 1, 4, 5), (3, 1, 1), (5,), (1, 1, 4, 1)][:count]
    check(op, {f"x{i}": numbers("float32", s) for i, s in enumerate(shapes)}, permuted=True)
    check(op, {f"x{i}": numbers("float16", s) for i, s in enumerate(shapes)})


SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "scalars": ((), ()),
    "scalar and tensor": ((), (2, 3)),
    "rank 6": ((2, 1, 3, 1, 2, 1), (1, 3, 1, 2, 1, 4)),
    "rank 6 and 2": ((2, 1, 3, 2, 2, 3), (2, 1)),
    "image and channels": ((2, 3, 4, 5), (3, 1, 1)),
    "image and row": ((2, 3, 4, 5), (5,)),
    "channels and image": ((1, 3, 1, 1), (2, 3, 4, 5)),
    "two that grow": ((3, 1, 4), (1, 5, 1)),
    "nothing": ((0, 3), (1, 3)),
}


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("op", ["Add", "Div", "Less", "Mod", "Pow", "Max"])
def test_broadcasting(op: str, shapes: str, permuted: bool) -> None:
    first, second = SHAPES[shapes]
    a = np.abs(numbers("float32", first)) + np.float32(0.5)
    b = np.abs(numbers("float32", second)) + np.float32(0.5)
    fields = {"fmod": 1} if op == "Mod" else {}
    check(op, {"a": a, "b": b}, permuted=permuted, **fields)
    check(op, {"a": a, "b": b}, permuted=permuted, constants=["a"], **fields)


@pytest.mark.parametrize("op", ["Sub", "Mod", "Greater", "Pow", "Mean", "BitwiseAnd"])
def test_batches(op: str) -> None:
    kind = "int32" if op == "BitwiseAnd" else "float32"
    a, b = np.abs(numbers(kind, (3, 4, 5), small=True)), nonzero(np.abs(numbers(kind, (3, 1, 5), small=True)))
    fields = {"fmod": 1} if op == "Mod" else {}
    check(op, {"a": a, "b": b}, batch=["a", "b"], **fields)
    check(op, {"a": a, "b": b[0]}, batch=["a"], permuted=True, **fields)


POWERS: dict[str, tuple[Any, Any]] = {
    "squares": (numbers("float32", (3, 4)), np.float32(2)),
    "squares by an integer": (numbers("float32", (3, 4)), np.int64(2)),
    "cubes": (numbers("float32", (3, 4)), np.float32([3])),
    "roots": (np.abs(numbers("float32", (3, 4))), np.float32(0.5)),
    "inverse roots": (np.abs(numbers("float32", (3, 4))), np.float32(-0.5)),
    "inverses": (numbers("float32", (3, 4)), np.float32(-1)),
    "themselves": (numbers("float32", (3, 4)), np.int32(1)),
    "wider by the exponent": (numbers("float32", (3, 1)), np.float32([2, 3, 0])),
    "two more axes": (numbers("float32", (3,)), np.full((1, 1), 2, np.float32)),
    "of float16": (np.abs(numbers("float16", (3, 4))), np.float16([1.5, 2, 0, -1])),
    "float by bytes": (numbers("float32", (3, 4)), np.array([0, 1, 2, 9], np.uint8)),
    "float by uint32": (numbers("float32", (3, 4)), np.array([0, 1, 2, 9], np.uint32)),
    "integers": (numbers("int32", (3, 4), small=True), np.array([0, 1, 3, 7], np.int32)),
    "wide integers": (np.array([3, -3, 7, 10, -1, 0], np.int64), np.array([33, 33, 18, 15, 63, 5], np.int64)),
    "units by anything": (np.array([1, -1, 1, -1, -1], np.int64), np.array([2**40, 2**40, 65, 65, -3], np.int64)),
    "integers by whole floats": (numbers("int32", (3, 4), small=True), np.array([0, 1, 3, 7], np.float32)),
    "negative exponents": (np.array([2, -5, 1, -1, -1], np.int32), np.array([-1, -2, -7, -3, -4], np.int32)),
}


@pytest.mark.parametrize("case", POWERS)
def test_powers(case: str) -> None:
    base, exponent = (np.asarray(a) for a in POWERS[case])
    check("Pow", {"a": base, "b": exponent}, constants=["b"])
    if case != "integers by whole floats":
        check("Pow", {"a": base, "b": exponent})


BITS: dict[str, Any] = {"BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor}


@pytest.mark.parametrize("dtype", WHOLE)
def test_bits(dtype: str) -> None:
    a, b = numbers(dtype, (3, 300)), numbers(dtype, (300,))
    for op in BITS:
        check(op, {"a": a, "b": b}, permuted=dtype == "int16")
        check(op, {"a": a, "b": b}, constants=["b"])
    check("BitwiseNot", {"a": a})


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", WHOLE)
def test_shifts(dtype: str, direction: str) -> None:
    width = np.dtype(dtype).itemsize * 8
    by = np.arange(width).astype(dtype)
    x = numbers(dtype, (30, 1))
    x[0], x[1] = np.iinfo(dtype).min, np.iinfo(dtype).max
    moved = np.left_shift(x, by) if direction == "LEFT" else np.right_shift(x, by)
    for constants in ([], ["b"]):
        data = emit_tflite(
            from_proto(model_of("BitShift", {"a": x, "b": by}, constants=constants, direction=direction))
        )
        np.testing.assert_array_equal(_run(data, {"a": x, "b": by}), moved)


def _run(data: bytes, feeds: dict[str, Array]) -> Array:
    from tests.ops.pair import run_tflite

    return run_tflite(data, feeds)["y0"]


@pytest.mark.parametrize("op", ["And", "Or", "Xor", "Equal"])
def test_truth(op: str) -> None:
    check(op, {"a": numbers("bool", (3, 1, 5)), "b": numbers("bool", (4, 1))}, permuted=True)
    check("Not", {"a": numbers("bool", (3, 4, 5))}, permuted=True, batch=["a"])


REFUSED: dict[str, tuple[str, dict[str, Array], str]] = {
    "float64": ("Add", {"a": np.ones(3), "b": np.ones(3)}, "float64"),
    "unsigned 64 bit quotients": ("Div", {"a": np.ones(3, np.uint64), "b": np.ones(3, np.uint64)}, "uint64"),
    "integers by computed floats": ("Pow", {"a": np.ones(3, np.int32), "b": np.ones(3, np.float32)}, "exponent"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    op, inputs, word = REFUSED[case]
    with pytest.raises(UnsupportedError, match=word):
        emit_tflite(from_proto(model_of(op, inputs)))
    assert OPS[op].lower is not None
