"""Numbers that follow the batch: their law, found from what the graph folds to for several batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Affine", "Counting", "Law", "Rising", "Sized", "Spread", "law_of", "sized"]

Array = npt.NDArray[Any]

_ROUNDING = 1e-6  # of the largest: products of matrices round another way for another batch


@dataclass(frozen=True, slots=True)
class Sized:
    """A shape for batch 1.

    dynamic  axes that follow the batch, or whose size is computed at run time (1 in ``shape``)
    growth   how much each axis grows with the batch; None where by no constant
    open     axes whose size is computed at run time
    """

    shape: tuple[int, ...]
    dynamic: frozenset[int]
    growth: tuple[int | None, ...]
    open: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """start + step x batch, element by element."""

    start: Array
    step: Array


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """``row`` (size 1 along ``axis``) repeated start + step x batch times."""

    row: Array
    axis: int
    start: int
    step: int


@dataclass(frozen=True, slots=True)
class Counting:
    """first, first + stride, first + 2 stride …: start + step x batch numbers along ``axis``, the others of size 1."""

    first: float
    stride: float
    axis: int
    rank: int
    start: int
    step: int


@dataclass(frozen=True, slots=True, eq=False)
class Rising:
    """row, row + stride, row + 2 stride …: integers, start + step x batch of them along ``axis`` (1 in ``row``)."""

    row: Array
    stride: int
    axis: int
    start: int
    step: int


Law = Affine | Spread | Counting | Rising


def sized(shapes: Mapping[int, tuple[int | None, ...]]) -> Sized | None:
    """From the shapes for one batch or more (None: a size computed at run time); None where the rank follows it."""
    if len({len(s) for s in shapes.values()}) > 1:
        return None
    one: list[int] = []
    growth: list[int | None] = []
    dynamic, opened = set(), set()
    for axis, column in enumerate(zip(*shapes.values(), strict=True)):
        sizes = [n for n in column if n is not None]
        line = _line({b: np.asarray(n) for b, n in zip(shapes, sizes, strict=False)}) if len(sizes) > 1 else None
        if len(sizes) < len(column):
            opened.add(axis)
        if len(sizes) < len(column) or len(set(sizes)) > 1:
            dynamic.add(axis)
        if axis in opened:
            one.append(1)
            growth.append(None)
        elif len(set(sizes)) == 1:
            one.append(sizes[0])
            growth.append(0)
        else:
            one.append(min(sizes) if line is None else int(line[0] + line[1]))
            growth.append(None if line is None else int(line[1]))
    return Sized(tuple(one), frozenset(dynamic), tuple(growth), frozenset(opened))


def _line(values: Mapping[int, Array]) -> tuple[Array, Array] | None:
    """(start, step) of arrays of one shape that are affine in the batch."""
    (a, first), (b, second), *rest = sorted(values.items())
    if any(v.dtype.kind not in "iuf" for v in values.values()):
        return None
    step = (second.astype(np.float64) - first.astype(np.float64)) / (b - a)
    start = first.astype(np.float64) - a * step
    whole = np.isfinite(start) & np.isfinite(step) & (step == np.rint(step)) & (start == np.rint(start))
    if not whole.all() or any(not np.array_equal(start + batch * step, v) for batch, v in rest):
        return None
    return start, step


def law_of(values: Mapping[int, Array]) -> Law | None:
    """The law of a constant, given what it is for three batches or more; None where it has none of them."""
    shapes = {v.shape for v in values.values()}
    dtype = values[min(values)].dtype
    if len(shapes) == 1:
        line = _line(values)
        return None if line is None else Affine(line[0].astype(dtype), line[1].astype(dtype))
    if len({len(s) for s in shapes}) > 1:
        return None
    columns = list(zip(*shapes, strict=True))
    grown = [i for i, sizes in enumerate(columns) if len(set(sizes)) > 1]
    if len(grown) != 1:
        return None
    axis = grown[0]
    line = _line({batch: np.asarray(v.shape[axis]) for batch, v in values.items()})
    if line is None:
        return None
    start, step = int(line[0]), int(line[1])
    largest = max(values.values(), key=lambda v: v.shape[axis])
    row = largest.take([0], axis)
    if all(_repeats(row, v) for v in values.values()):
        return Spread(row, axis, start, step)
    if dtype.kind in "iu" and largest.size > largest.shape[axis] > 1:
        return _rising(largest, row, axis, (start, step), values)
    numbers = largest.reshape(-1)
    if largest.size != largest.shape[axis] or dtype.kind not in "iuf" or numbers.size < 2:
        return None
    first, stride = numbers[0], numbers[1] - numbers[0]
    if all(_equal((first + stride * np.arange(v.size)).astype(dtype), v.reshape(-1)) for v in values.values()):
        return Counting(first.item(), stride.item(), axis, largest.ndim, start, step)
    return None


def _rising(largest: Array, row: Array, axis: int, line: tuple[int, int], values: Mapping[int, Array]) -> Law | None:
    stride = int(largest.take(1, axis).flat[0]) - int(row.flat[0])
    along = [-1 if i == axis else 1 for i in range(row.ndim)]
    if any(not _equal(row + stride * np.arange(v.shape[axis]).reshape(along), v) for v in values.values()):
        return None
    return Rising(row, stride, axis, *line)


def _repeats(row: Array, whole: Array) -> bool:
    if whole.dtype.kind != "f":
        return _equal(np.broadcast_to(row, whole.shape), whole)
    away = _ROUNDING * np.abs(row[np.isfinite(row)]).max(initial=0)
    return np.allclose(row, whole, rtol=0, atol=away, equal_nan=True)


def _equal(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
