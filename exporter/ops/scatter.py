"""Writing elements by index.

TFLite's SCATTER_ND starts from zeros and adds up what meets in one place, so it serves for sums alone. Elsewhere
UNSORTED_SEGMENT_* over the number of the row does it: with MAX over the position in the list it tells which update
comes last, as ONNX Runtime, which writes one after the other, would have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporter.ops.carrier import carried, delivering
from exporter.ops.integers import Integers
from exporter.ops.lowering import Lowering, Tensor, identity
from exporter.ops.op import STORED, InputRole, Op, Same

__all__ = ["ROWS"]

_SIGN = np.int32(0x7FFFFFFF)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """data [count, width] is rewritten at ``numbers`` (int32 [updates]) with updates [updates, width]."""

    data: Tensor
    updates: Tensor
    numbers: Tensor


def scatter_nd(ctx: Lowering) -> None:
    """Each index names a slice of the data."""
    data, indices, updates = ctx.plain(0), ctx.plain(1), ctx.plain(2)
    depth = indices.shape[-1]
    steps = Integers(ctx)
    if indices.dynamic - {0} or updates.dynamic - {0} or data.dynamic - {0}:
        raise ctx.refuse("data", "an axis after the first follows the batch", "export with a fixed batch")
    numbers = _numbers(ctx, indices, data, depth)
    width = int(np.prod(data.shape[depth:]))
    lead = data.dynamic if depth else frozenset()
    many = int(np.prod(indices.shape[:-1]))
    rows = _Rows(
        steps.reshape(data, (int(np.prod(data.shape[:depth])), width), lead),
        steps.reshape(updates, (many, width), indices.dynamic),
        steps.reshape(numbers, (many,), indices.dynamic),
    )
    _scatter(ctx, rows, ctx.attr("reduction", "none"))


def _numbers(ctx: Lowering, indices: Tensor, data: Tensor, depth: int) -> Tensor:
    """Row numbers of indices [..., depth], int32."""
    steps = Integers(ctx)
    length = steps.lengths(data, range(depth))
    indices = steps.wrapped(steps.cast(indices, np.int32), length)
    strides = np.cumprod([1, *data.shape[1:depth][::-1]])[::-1]
    return steps.sum_last(steps.binary("MUL", indices, strides))


def scatter_elements(ctx: Lowering) -> None:
    """Each index names one element along ``axis``; the other coordinates are its own."""
    shape, rank = ctx.shape(0), len(ctx.shape(0))
    axis = ctx.attr("axis", 0) % rank
    data, indices, updates = ctx.plain(0), ctx.plain(1), ctx.plain(2)
    moving = data.dynamic | indices.dynamic
    if moving - {0} or (axis and data.dynamic != indices.dynamic):
        raise ctx.refuse("data", "its batch is not the one of the indices", "export with a fixed batch")
    steps = Integers(ctx)
    strides = np.cumprod([1, *shape[:0:-1]])[::-1]
    length = steps.reshape(steps.lengths(data, [axis]), ())
    numbers = steps.binary("MUL", steps.wrapped(steps.cast(indices, np.int32), length), int(strides[axis]))
    for other in range(rank):
        if other == axis:
            continue
        along = steps.binary("MUL", steps.counting(indices, [other]), int(strides[other]))
        spread = [1] * rank
        spread[other] = along.shape[0]
        moves = frozenset({other}) if other in indices.dynamic else frozenset()
        numbers = steps.binary("ADD", numbers, steps.reshape(along, spread, moves))
    many = int(np.prod(indices.shape))
    rows = _Rows(
        steps.reshape(data, (int(np.prod(shape)), 1), data.dynamic),
        steps.reshape(updates, (many, 1), indices.dynamic),
        steps.reshape(numbers, (many,), indices.dynamic),
    )
    _scatter(ctx, rows, ctx.attr("reduction", "none"))


def _scatter(ctx: Lowering, rows: _Rows, reduction: str) -> None:
    ways = {"none": _last, "add": _sum, "mul": _product, "max": _extreme, "min": _extreme}
    if reduction not in ways:
        raise ctx.refuse("reduction", repr(reduction), f"can be {', '.join(ways)}")
    result = ways[reduction](ctx, rows)
    ctx.program.reshape_into(result, ctx.output(identity(len(ctx.out_shape()))))


def _last(ctx: Lowering, rows: _Rows) -> Tensor:
    """Rows of the data, or of the updates where one was written: GATHER from both, laid end to end."""
    source = _source_rows(ctx, rows)
    data, updates = carried(ctx, rows.data), carried(ctx, rows.updates)
    shape = (data.shape[0] + updates.shape[0], data.shape[1])
    both = ctx.program.temp(data, shape, data.dynamic | updates.dynamic, f"{ctx.result.name}/both")
    ctx.emit("CONCATENATION", [data, updates], [both], "ConcatenationOptions", axis=0, fusedActivationFunction="NONE")
    result = ctx.program.temp(rows.data, rows.data.shape, rows.data.dynamic, f"{ctx.result.name}/rows")
    with delivering(ctx, result) as target:
        ctx.emit("GATHER", [both, source], [target], "GatherOptions", axis=0, batchDims=0)
    return result


def _source_rows(ctx: Lowering, rows: _Rows) -> Tensor:
    """For each row of the data: its own number, or the number of data rows plus the last update's position."""
    steps = Integers(ctx)
    count, many = rows.data.shape[0], rows.updates.shape[0]
    if rows.numbers.data is not None and not rows.data.dynamic:
        found = np.arange(count)
        found[rows.numbers.data] = count + np.arange(many)  # numpy writes in order: the last one stays
        return steps.constant(found)
    last = _segments(ctx, "MAX", steps.counting(rows.updates, [0]), rows)
    beyond = steps.binary("ADD", last, steps.count(rows.data, [0]))
    return steps.select(steps.binary("LESS", last, 0), steps.counting(rows.data, [0]), beyond)


def _segments(ctx: Lowering, kind: str, updates: Tensor, rows: _Rows) -> Tensor:
    """UNSORTED_SEGMENT_*: the updates that meet in each row of the data, reduced."""
    steps = Integers(ctx)
    shape = (rows.data.shape[0], *updates.shape[1:])
    result = steps.new(updates.dtype, shape, rows.data.dynamic, kind.lower())
    operands = [updates, rows.numbers, steps.count(rows.data, [0])]
    ctx.emit(f"UNSORTED_SEGMENT_{kind}", operands, [result], f"UnsortedSegment{kind.title()}Options")
    return result


def _work_type(ctx: Lowering, tensor: Tensor, native: tuple[str, ...]) -> np.dtype[np.generic]:
    """The type to compute in: its own, or one that holds all of its values."""
    name = tensor.dtype.name
    if name in native:
        return tensor.dtype
    wider = {"int8": np.int32, "uint8": np.int32, "int16": np.int32, "uint16": np.int32,
             "float16": np.float32, "bfloat16": np.float32}  # fmt: skip
    if name not in wider:
        found = f"{ctx.attr('reduction', 'none')!r} of {name}"
        raise ctx.refuse("reduction", found, f"can be {', '.join((*native, *wider))}")
    return np.dtype(wider[name])


def _back(ctx: Lowering, tensor: Tensor, rows: _Rows) -> Tensor:
    return Integers(ctx).cast(tensor, rows.data.dtype)


def _sum(ctx: Lowering, rows: _Rows) -> Tensor:
    """The data plus what SCATTER_ND adds up."""
    steps = Integers(ctx)
    dtype = _work_type(ctx, rows.data, ("float32", "int32", "int64"))
    data, updates = steps.cast(rows.data, dtype), steps.cast(rows.updates, dtype)
    places = steps.reshape(rows.numbers, (*rows.numbers.shape, 1), rows.numbers.dynamic)
    total = steps.new(dtype, data.shape, data.dynamic, "added")
    ctx.emit("SCATTER_ND", [places, updates, steps.lengths(data, [0, 1])], [total], "ScatterNdOptions")
    return _back(ctx, steps.binary("ADD", data, total), rows)


def _product(ctx: Lowering, rows: _Rows) -> Tensor:
    """The data times the product of each row's updates, 1 where there is none."""
    steps = Integers(ctx)
    dtype = _work_type(ctx, rows.data, ("float32", "int32"))
    data, updates = steps.cast(rows.data, dtype), steps.cast(rows.updates, dtype)
    return _back(ctx, steps.binary("MUL", data, _segments(ctx, "PROD", updates, rows)), rows)


def _extreme(ctx: Lowering, rows: _Rows) -> Tensor:
    """The larger (smaller) of the data and its row's updates, in integers: the kernel's float range lacks infinity."""
    steps = Integers(ctx)
    larger = ctx.attr("reduction") == "max"
    dtype = _work_type(ctx, rows.data, ("float32", "int32"))
    data, updates = (_ordered(ctx, steps.cast(t, dtype)) for t in (rows.data, rows.updates))
    found = _segments(ctx, "MAX" if larger else "MIN", updates, rows)
    best = steps.binary("MAXIMUM" if larger else "MINIMUM", data, found)
    if dtype == np.float32:
        bits = _flipped(ctx, best)
        best = steps.new(np.float32, best.shape, best.dynamic)
        ctx.emit("BITCAST", [bits], [best], "BitcastOptions")
    return _back(ctx, best, rows)


def _ordered(ctx: Lowering, tensor: Tensor) -> Tensor:
    """Float numbers as integers of the same order; integers as they are."""
    if tensor.dtype != np.float32:
        return tensor
    return _flipped(ctx, carried(ctx, tensor, ("int32",)))


def _flipped(ctx: Lowering, bits: Tensor) -> Tensor:
    """A float32's bits with all but the sign turned over where it is negative; turned twice it is as before."""
    steps = Integers(ctx)
    if bits.data is not None:
        return steps.constant(np.where(bits.data < 0, bits.data ^ _SIGN, bits.data))
    turned = steps.new(np.int32, bits.shape, bits.dynamic)
    ctx.emit("BITWISE_XOR", [bits, steps.constant(_SIGN)], [turned], "BitwiseXorOptions")
    return steps.select(steps.binary("LESS", bits, 0), turned, bits)


def tensor_scatter(ctx: Lowering) -> None:
    """A cache in which each sample's update starts at its own position: SELECT between the two, by position."""
    rank = len(ctx.shape(0))
    axis = ctx.attr("axis", -2) % rank
    mode = ctx.attr("mode", "linear")
    if mode not in {"linear", "circular"} or axis == 0:
        raise ctx.refuse("mode", f"{mode!r} along axis {axis}", "linear and circular work, on an axis after the first")
    layout = (0, axis, *(a for a in range(1, rank) if a != axis))
    past, update = ctx.input(0, layout).tensor, ctx.input(1, layout).tensor
    steps = Integers(ctx)
    length, many = past.shape[1], update.shape[1]
    start = steps.cast(ctx.plain(2), np.int32) if ctx.has(2) else steps.constant([0])
    start = steps.reshape(start, (start.shape[0], 1), start.dynamic)
    place = steps.binary("SUB", steps.constant(np.arange(length)[None]), start)
    if mode == "circular":
        place = steps.wrapped(place, length)
    inside = steps.binary("LOGICAL_AND", steps.binary("GREATER_EQUAL", place, 0), steps.binary("LESS", place, many))
    safe = steps.binary("MINIMUM", steps.binary("MAXIMUM", place, 0), many - 1)
    picked = ctx.program.temp(update, past.shape, past.dynamic, f"{ctx.result.name}/update")
    batch = 0 if safe.shape[0] == 1 and not safe.dynamic else 1
    rows = steps.reshape(safe, safe.shape[1:]) if batch == 0 else safe
    with delivering(ctx, picked) as target:
        ctx.emit("GATHER", [carried(ctx, update), rows], [target], "GatherOptions", axis=1, batchDims=batch)
    inside = steps.reshape(inside, (*inside.shape, *[1] * (rank - 2)), inside.dynamic)
    ctx.emit("SELECT_V2", [inside, picked, past], [ctx.output(layout)], "SelectV2Options")


def _replaces(node: ir.Node) -> bool:
    return node.attributes.get_string("reduction", "none") == "none"


_WRITES: tuple[InputRole, ...] = ("activation", "static", "activation")

ROWS = (
    Op("Scatter", Same(), _WRITES, lower=scatter_elements, types=STORED),
    Op("ScatterElements", Same(), _WRITES, lower=scatter_elements, types=STORED, int8_when=_replaces),
    Op("ScatterND", Same(), _WRITES, lower=scatter_nd, types=STORED, int8_when=_replaces),
    Op("TensorScatter", Same(), ("activation", "activation", "static"), lower=tensor_scatter, types=STORED),
)
