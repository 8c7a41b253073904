"""Einsum: the equation as diagonals, sums, transposes, and one product for each further operand.

A product is MatMul where something is summed over, with what both sides and the result share as the batch; else Mul.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.expansion import Expansion, Operand
from exporter.ops.op import STORED, Float, Op

__all__ = ["ROWS"]

_MOST_BATCHES = 3  # batch axes of a BATCH_MATMUL


@dataclass(frozen=True, slots=True)
class _Term:
    """An operand and the subscript of each of its axes, one character each."""

    value: ir.Value
    axes: str


def einsum(e: Expansion) -> None:
    """Letters, ellipsis, repeated letters; implicit and explicit output; any number of operands."""
    subscripts, output = _parsed(e)
    sizes = _sizes(e, subscripts)
    terms = [_Term(e.input(i), axes) for i, axes in enumerate(subscripts)]
    terms = [_without_ones(e, _diagonal(e, t, sizes), sizes, i) for i, t in enumerate(terms)]
    whole = terms[0]
    for number, term in enumerate(terms[1:], 1):
        keep = set(output).union(*(t.axes for t in terms[number + 1 :]))
        whole = _product(
            e, _summed(e, whole, keep | set(term.axes)), _summed(e, term, keep | set(whole.axes)), keep, sizes
        )
    whole = _summed(e, whole, set(output))
    missing = [a for a in output if a not in whole.axes]
    if missing:
        raise e.refuse("equation", f"{missing} only in the result", "name every axis of the result in an operand")
    e.finish(e.transpose(whole.value, [whole.axes.index(a) for a in output]))


def _parsed(e: Expansion) -> tuple[list[str], str]:
    """Subscripts of the operands and of the result, an ellipsis as digits."""
    equation = str(e.attr("equation", "")).replace(" ", "")
    left, arrow, right = equation.partition("->")
    given = left.split(",")
    if len(given) != len(e.node.inputs):
        raise e.refuse("equation", repr(equation), f"one term for each of {len(e.node.inputs)} operands")
    ranks = [len(e.shape(i)) - len(term.replace("...", "")) for i, term in enumerate(given)]
    most = max([r for r, term in zip(ranks, given, strict=True) if "..." in term], default=0)
    if any(r < 0 or (r and "..." not in term) for r, term in zip(ranks, given, strict=True)) or most > 9:
        raise e.refuse("equation", repr(equation), "a letter for each axis, or an ellipsis")
    dots = "0123456789"[:most]
    terms = [term.replace("...", dots[most - rank :]) for term, rank in zip(given, ranks, strict=True)]
    if not arrow:
        count = Counter("".join(given).replace(".", ""))
        right = "..." * bool(most) + "".join(sorted(a for a, n in count.items() if n == 1))
    return terms, right.replace("...", dots)


def _sizes(e: Expansion, subscripts: Sequence[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for index, axes in enumerate(subscripts):
        for axis, size in zip(axes, e.sizes(index), strict=True):
            if size != 1 and sizes.get(axis, 1) not in {1, size}:
                raise e.refuse("equation", f"{axis!r} is {sizes[axis]} and {size}", "sizes must agree")
            sizes[axis] = max(size, sizes.get(axis, 1)) if size else 0
    return sizes


def _diagonal(e: Expansion, term: _Term, sizes: dict[str, int]) -> _Term:
    """A repeated letter walks both axes at once: every (size + 1)-th element of the two as one."""
    value, axes = term.value, term.axes
    while repeated := [a for a, n in Counter(axes).items() if n > 1]:
        letter, size = repeated[0], sizes[repeated[0]]
        first = axes.index(letter)
        second = axes.index(letter, first + 1)
        rest = [i for i in range(len(axes)) if i not in {first, second}]
        value = e.op("Transpose", value, perm=[*rest, first, second])
        axes = "".join(axes[i] for i in rest) + letter
        value = e.reshape(value, [*(sizes[a] for a in axes[:-1]), size * size])
        value = e.op("Gather", value, np.arange(size) * (size + 1), axis=-1)
    return _Term(value, axes)


def _without_ones(e: Expansion, term: _Term, sizes: dict[str, int], index: int) -> _Term:
    """An axis of size 1 that is spread over another operand's is left out."""
    own = dict(zip(term.axes, e.sizes(index), strict=False)) if term.value is e.input(index) else {}
    spread = [a for a in term.axes if own.get(a) == 1 and sizes[a] != 1]
    if not spread:
        return term
    places = np.asarray([term.axes.index(a) for a in spread])
    return _Term(e.op("Squeeze", term.value, places), "".join(a for a in term.axes if a not in spread))


def _summed(e: Expansion, term: _Term, keep: set[str]) -> _Term:
    gone = [i for i, a in enumerate(term.axes) if a not in keep]
    if not gone:
        return term
    value = e.op("ReduceSum", term.value, np.asarray(gone), keepdims=0)
    return _Term(value, "".join(a for a in term.axes if a in keep))


def _product(e: Expansion, a: _Term, b: _Term, keep: set[str], sizes: dict[str, int]) -> _Term:
    both = [x for x in a.axes if x in b.axes]
    inner = [x for x in both if x not in keep]
    if not inner:
        return _spread(e, a, b)
    batch = [x for x in both if x in keep]
    if not batch and graph.is_constant(a.value) and not graph.is_constant(b.value):
        a, b = b, a  # the constant matrix on the right is FULLY_CONNECTED
    rows, columns = ([x for x in t.axes if x not in both] for t in (a, b))
    merged = len(batch) > _MOST_BATCHES
    left = _matrix(e, a, sizes, (batch, merged), (rows, bool(batch)), (inner, True))
    right = _matrix(e, b, sizes, (batch, merged), (inner, True), (columns, bool(batch) or len(columns) > 1))
    result = e.op("MatMul", left, right)
    axes = [*batch, *rows, *columns]
    if merged or len(columns) > 1 or (batch and (len(rows), len(columns)) != (1, 1)):
        result = e.reshape(result, [sizes[x] for x in axes])
    return _Term(result, "".join(axes))


def _matrix(e: Expansion, term: _Term, sizes: dict[str, int], *groups: tuple[Sequence[str], bool]) -> Operand:
    """The axes in the order of the groups; the axes of a group marked so as one."""
    turned = e.transpose(term.value, [term.axes.index(x) for group, _ in groups for x in group])
    if all(len(group) == 1 or not one for group, one in groups):
        return turned
    shape: list[int] = []
    for group, one in groups:
        own = [sizes[x] for x in group]
        shape += [int(np.prod(own))] if one else own
    return e.reshape(turned, shape)


def _spread(e: Expansion, a: _Term, b: _Term) -> _Term:
    """Mul, with the axes of either side spread over the other's."""
    axes = a.axes + "".join(x for x in b.axes if x not in a.axes)
    sides = []
    for term in (a, b):
        own = [x for x in axes if x in term.axes]
        turned = e.transpose(term.value, [term.axes.index(x) for x in own])
        missing = [i for i, x in enumerate(axes) if x not in term.axes]
        sides.append(e.op("Unsqueeze", turned, np.asarray(missing)) if missing else turned)
    return _Term(e.op("Mul", *sides), axes)


ROWS = (Op("Einsum", Float("written with simpler operators"), types=STORED, expand=einsum),)
