"""Reductions, places of extremes, running sums and products: element types, axes, layouts, batches, no elements."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.pair import Array, check, model_of

RNG = np.random.default_rng(29)
WHOLE = ("int32", "int64")
TYPES = {
    "ReduceSum": (*WHOLE, "uint32", "uint64"),
    "ReduceProd": (*WHOLE, "uint32", "uint64"),
    "ReduceMean": WHOLE,
    "ReduceL1": WHOLE,
    "ReduceSumSquare": WHOLE,
    "ReduceL2": (),
    "ReduceLogSum": (),
    "ReduceLogSumExp": (),
    "ReduceMax": (*WHOLE, "int8", "uint8", "uint32", "uint64", "bool"),
    "ReduceMin": (*WHOLE, "int8", "uint8", "uint32", "uint64", "bool"),
}


def numbers(dtype: str, shape: tuple[int, ...], *, positive: bool = False) -> Array:
    if dtype == "bool":
        return RNG.integers(0, 2, shape).astype(bool)
    if dtype.startswith(("float", "bfloat")):
        real = RNG.normal(0, 2, shape)
        return (np.abs(real) if positive else real).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, dtype, endpoint=True)


def axes_input(axes: list[int] | None) -> Array | None:
    return None if axes is None else np.asarray(axes, np.int64)


AXES: list[tuple[tuple[int, ...], list[int] | None]] = [
    ((2, 3, 4), [1]), ((2, 3, 4), [-1, 0]), ((2, 3, 4), None), ((2, 3, 4, 5), [2, 3]), ((2, 3, 4, 5), [1]),
    ((5,), [0]), ((), None), ((1, 2, 1, 3, 2, 2), [5, 1, 3]), ((2, 2, 2, 2, 2, 2, 2), [2, 3, 4]), ((2, 3, 4, 5), []),
]  # fmt: skip


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("op", TYPES)
def test_axes(op: str, keep: int) -> None:
    for (shape, axes), permuted in itertools.product(AXES, (False, True)):
        x = numbers("float32", shape, positive=op == "ReduceLogSum")
        inputs = {"x": x, "a": axes_input(axes)}
        check(op, inputs, constants=["a"], keepdims=keep, permuted=permuted)


@pytest.mark.parametrize("op", TYPES)
def test_types(op: str) -> None:
    for dtype in TYPES[op]:
        x = numbers(dtype, (3, 4, 5))
        if op not in {"ReduceMax", "ReduceMin"}:  # ONNX leaves open what a sum does that does not fit
            x = x % np.asarray(3 if op == "ReduceProd" else 1000, dtype)
        check(op, {"x": x, "a": axes_input([0, 2])}, constants=["a"], permuted=True)
    x = numbers("float16", (3, 4, 5), positive=True)
    check(op, {"x": x, "a": axes_input([1])}, constants=["a"])


@pytest.mark.parametrize("op", TYPES)
def test_batches(op: str) -> None:
    x = numbers("float32", (3, 4, 5), positive=op == "ReduceLogSum")
    for axes in ([1], [0], [0, 2], None):
        for keep in (0, 1):
            inputs = {"x": x, "a": axes_input(axes)}
            check(op, inputs, constants=["a"], batch=["x"], keepdims=keep, permuted=keep == 1)


@pytest.mark.parametrize("op", TYPES)
def test_nothing_to_reduce(op: str) -> None:
    x = numbers("float32", (3, 4), positive=True)
    check(op, {"x": x}, noop_with_empty_axes=1)
    if op != "ReduceMean":  # onnx leaves it undefined
        check(op, {"x": np.zeros((2, 0, 4), np.float32), "a": axes_input([1])}, constants=["a"])
        check(op, {"x": np.zeros((2, 0, 4), np.float32), "a": axes_input([0])}, constants=["a"], keepdims=0)


def test_sums_of_exponentials_do_not_overflow() -> None:
    x = np.float32([[1e4, 1e4 + 1], [-1e4, -1e4], [-np.inf, 0], [-np.inf, -np.inf], [np.inf, 0], [-3.4e38, 3.4e38]])
    check("ReduceLogSumExp", {"x": x, "a": axes_input([1])}, constants=["a"])


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_places(op: str, last: int) -> None:
    for dtype in ("float32", "float16", "int8", "uint8", "int16", "uint16", "int32", "int64", "uint32", "uint64"):
        x = RNG.integers(0, 4, (2, 3, 4, 5)).astype(dtype)  # with many equal ones
        x = x - np.asarray(2, dtype) if dtype[0] != "u" else x * np.asarray(np.iinfo(dtype).max // 4 + 1, dtype)
        for axis, keep, permuted in itertools.product((0, 1, -1), (0, 1), (False, True)):
            check(op, {"x": x}, axis=axis, keepdims=keep, select_last_index=last, permuted=permuted)
    check(op, {"x": x[0, 0, 0]}, keepdims=0, select_last_index=last)
    check(op, {"x": numbers("float32", (3, 4, 5))}, axis=2, batch=["x"], select_last_index=last, permuted=True)
    check(op, {"x": numbers("float32", (2, 1, 3, 2, 2, 2))}, axis=2, select_last_index=last)


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
def test_running(op: str, exclusive: int, reverse: int) -> None:
    how: dict[str, Any] = {"constants": ["a"], "exclusive": exclusive, "reverse": reverse}
    for dtype in ("float32", "float16", "int32", "int64", "uint32", "uint64"):
        for shape, axis in (((7,), 0), ((3, 4), 1), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), -2), ((2, 1, 3), 1)):
            x = numbers(dtype, shape)
            if op == "CumSum":
                check(op, {"x": x, "a": np.asarray(axis)}, permuted=True, **how)
            else:
                _check_product(x, axis, exclusive, reverse)
    if op == "CumSum":
        check(op, {"x": numbers("float32", (3, 4)), "a": np.asarray(1, np.int32)}, batch=["x"], **how)


def _check_product(x: Array, axis: int, exclusive: int, reverse: int) -> None:
    from tests.ops.pair import run_tflite

    turned = np.flip(x, axis) if reverse else x
    true = np.cumprod(turned, axis, x.dtype)
    if exclusive:
        first = np.take(np.ones_like(x), [0], axis)
        true = np.concatenate([first, np.delete(true, -1, axis)], axis)
    true = np.flip(true, axis) if reverse else true
    how = {"exclusive": exclusive, "reverse": reverse, "constants": ["a"]}
    model = model_of("CumProd", {"x": x, "a": np.asarray(axis)}, **how)
    model.opset_import[0].version = 26
    found = run_tflite(emit_tflite(from_proto(model)), {"x": x})["y0"]
    tolerance = {"float32": 1e-5, "float16": 2e-2}.get(x.dtype.name, 0)
    np.testing.assert_allclose(found, true, tolerance, tolerance)


REFUSED: dict[str, tuple[str, dict[str, Array], dict[str, Any], str]] = {
    "computed axes": ("ReduceSum", {"x": np.ones((2, 3), np.float32), "a": np.asarray([1])}, {}, "axes"),
    "seven axes in turn": ("ReduceSum", {"x": np.ones((2,) * 7, np.float32), "a": np.asarray([0, 2, 4, 6])},
                           {"constants": ["a"]}, "axes"),
    "float64": ("ReduceSum", {"x": np.ones((2, 3))}, {}, "float64"),
    "products along the batch": ("CumProd", {"x": np.ones((2, 3), np.float32), "a": np.asarray(0)},
                                 {"constants": ["a"], "batch": ["x"]}, "batch"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    op, inputs, how, word = REFUSED[case]
    model = model_of(op, inputs, **how)
    if op == "CumProd":
        model.opset_import[0].version = 26
    with pytest.raises(UnsupportedError, match=word):
        emit_tflite(from_proto(model))
