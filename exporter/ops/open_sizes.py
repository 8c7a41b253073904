"""Operators whose result has a size that only the run tells, and those that may read it."""

from __future__ import annotations

import numpy as np

from exporter.ops.carrier import carried, delivering
from exporter.ops.expansion import Expansion
from exporter.ops.integers import Integers
from exporter.ops.lowering import Lowering, Tensor, View
from exporter.ops.op import STORED, Float, InputRole, Op, Same

__all__ = ["OPEN_SIZES", "ROWS"]

# none of these computes with the sizes of its inputs before the run
OPEN_SIZES = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Compress", "Concat", "ConstantOfShape", "Cos", "Div", "Equal",
    "Exp", "Flatten", "Floor", "Gather", "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less",
    "LessOrEqual", "Log", "Max", "Min", "Mul", "Neg", "NonMaxSuppression", "NonZero", "Not", "Or", "Range",
    "Reciprocal", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Sign", "Sin",
    "Size", "Slice", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unique", "Unsqueeze", "Where", "Xor",
})  # fmt: skip

_TESTED = ("bool", "float32", "int64", "int32", "uint8", "int8", "uint32")  # what WHERE takes
_LISTED = ("float32", "int64", "int32", "int16", "int8", "uint8")  # what UNIQUE takes


def non_zero(ctx: Lowering) -> None:
    """WHERE gives a row for each place; the result is another view of it."""
    source = ctx.plain(0)
    if not source.shape:
        raise ctx.refuse("X", "a scalar", "give it a dimension")
    if source.dtype.name not in _TESTED:
        source = Integers(ctx).cast(source, np.bool_)
    ctx.emit("WHERE", [source], [ctx.output((1, 0))])


def _places(ctx: Lowering, condition: Tensor) -> Tensor:
    """Where a vector holds, int64 of as many numbers."""
    steps = Integers(ctx)
    rows = steps.new(np.int64, (1, 1), frozenset({0}), "rows")
    ctx.emit("WHERE", [condition], [rows])
    return steps.reshape(rows, (1,), frozenset({0}))


def chosen(ctx: Expansion) -> None:
    """Compress by a constant condition: Gather of the places where it holds."""
    wanted = ctx.const(1)
    if wanted is None:
        return
    source, axis = ctx.input(0), ctx.attr("axis")
    if axis is None:
        source, axis = ctx.reshape(source, [-1]), 0
    ctx.finish(ctx.op("Gather", source, np.flatnonzero(wanted), axis=axis))


def compress(ctx: Lowering) -> None:
    """GATHER of the places where the condition holds."""
    axis, view = ctx.attr("axis"), ctx.input(0)
    if axis is None:
        source = ctx.plain(0)
        count = 1 if source.dynamic else int(np.prod(source.shape))
        view = View(Integers(ctx).reshape(source, (count,), frozenset({0} if source.dynamic else ())), (0,))
    place = view.layout.index((axis or 0) % len(view.axes))
    places = _places(ctx, ctx.plain(1))
    with delivering(ctx, ctx.output(view.layout)) as target:
        ctx.emit("GATHER", [carried(ctx, view.tensor), places], [target], "GatherOptions", axis=place, batchDims=0)


def unique(ctx: Lowering) -> None:
    """UNIQUE, in the order of first appearance; sorted by TOPK_V2 of the numbers turned round."""
    source, steps = ctx.plain(0), Integers(ctx)
    if ctx.attr("axis") is not None and len(source.shape) != 1:
        raise ctx.refuse("axis", str(ctx.attr("axis")), "leave it out, or do this outside of the graph")
    kind = "float32" if source.dtype.name in {"float16", "bfloat16"} else source.dtype.name
    if kind not in _LISTED:
        raise ctx.refuse("X", kind, f"can be {', '.join(_LISTED)}, float16, bfloat16")
    count = 1 if source.dynamic else int(np.prod(source.shape))
    flat = steps.reshape(steps.cast(source, kind), (count,), frozenset({0} if source.dynamic else ()))
    found = steps.new(kind, (1,), frozenset({0}), "found")
    index = steps.new(np.int32, flat.shape, flat.dynamic, "index")
    ctx.emit("UNIQUE", [flat], [found, index], "UniqueOptions", idxOutType=2)
    first = _per_number(ctx, "MIN", steps.counting(flat, [0]), index, found)
    many = _per_number(ctx, "SUM", _ones(ctx, flat), index, found)
    if ctx.attr("sorted", 1):
        order = _ascending(ctx, found)
        found, first, many = (_picked(ctx, t, order) for t in (found, first, many))
        index = _picked(ctx, _inverse(ctx, order), index)
    for place, tensor in enumerate((found, first, index, many)[: len(ctx.node.outputs)]):
        result = ctx.output(index=place)
        ctx.emit("CAST", [tensor], [result], "CastOptions")


def _per_number(ctx: Lowering, kind: str, values: Tensor, index: Tensor, found: Tensor) -> Tensor:
    steps = Integers(ctx)
    result = steps.new(np.int32, found.shape, found.dynamic, kind.lower())
    operands = [values, index, steps.count(found, [0])]
    ctx.emit(f"UNSORTED_SEGMENT_{kind}", operands, [result], f"UnsortedSegment{kind.title()}Options")
    return result


def _ones(ctx: Lowering, like: Tensor) -> Tensor:
    steps = Integers(ctx)
    if not like.dynamic:
        return steps.constant(np.ones(like.shape))
    result = steps.new(np.int32, like.shape, like.dynamic, "ones")
    ctx.emit("FILL", [steps.lengths(like, [0]), steps.constant(1)], [result], "FillOptions")
    return result


def _ascending(ctx: Lowering, numbers: Tensor) -> Tensor:
    """Places of the numbers from the smallest on."""
    steps = Integers(ctx)
    if numbers.dtype.kind == "f":
        turned = steps.steps.unary("NEG", numbers)
    else:
        wide = steps.cast(numbers, np.int64 if numbers.dtype == np.int64 else np.int32)
        turned = steps.binary("SUB", steps.constant(-1, wide.dtype), wide)
    best = steps.new(turned.dtype, numbers.shape, numbers.dynamic, "best")
    order = steps.new(np.int32, numbers.shape, numbers.dynamic, "order")
    ctx.emit("TOPK_V2", [turned, steps.count(numbers, [0])], [best, order], "TopKV2Options")
    return order


def _picked(ctx: Lowering, numbers: Tensor, places: Tensor) -> Tensor:
    result = Integers(ctx).new(numbers.dtype, places.shape, places.dynamic, "picked")
    ctx.emit("GATHER", [numbers, places], [result], "GatherOptions", axis=0, batchDims=0)
    return result


def _inverse(ctx: Lowering, order: Tensor) -> Tensor:
    """Where each place went."""
    steps = Integers(ctx)
    rows = steps.reshape(order, (1, 1), frozenset({0}))
    result = steps.new(np.int32, order.shape, order.dynamic, "inverse")
    operands = [rows, steps.counting(order, [0]), steps.lengths(order, [0])]
    ctx.emit("SCATTER_ND", operands, [result], "ScatterNdOptions")
    return result


_BY_VALUE = Float("its shape is computed at run time")
_BY_INDEX: tuple[InputRole, ...] = ("activation", "static")

ROWS = (
    Op("NonZero", _BY_VALUE, lower=non_zero, types=STORED),
    Op("Unique", _BY_VALUE, lower=unique, types=STORED),
    Op("Compress", Same(), _BY_INDEX, lower=compress, expand=chosen, types=STORED),
)
