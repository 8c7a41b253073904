"""Picking elements by index. Indices that count from the end are made positive: TFLite's kernels refuse them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.carrier import carried, delivering
from exporter.ops.embedding import look_up
from exporter.ops.integers import Integers
from exporter.ops.lowering import NEW, Array, Lowering, Tensor, View, identity
from exporter.ops.op import STORED, InputRole, Op, Same

__all__ = ["ROWS"]

_NEVER_NEGATIVE = {"ArgMax", "ArgMin", "NonZero", "Shape", "Size"}


def _counts_up(value: ir.Value | None) -> bool:
    """Comes from an operator whose numbers are never negative?"""
    maker = value.producer() if value is not None else None
    return maker is not None and maker.op_type in _NEVER_NEGATIVE


def positive(ctx: Lowering, index: int, indices: Tensor, length: Tensor) -> Tensor:
    """Input ``index`` with its negative numbers counted from the end, axes of ``length``."""
    if _counts_up(ctx.node.inputs[index]):
        return indices
    steps = Integers(ctx)
    if indices.data is not None and length.data is not None:
        return steps.cast(steps.wrapped(indices, length), np.int32)
    return steps.wrapped(indices, steps.cast(length, indices.dtype))


def gather(ctx: Lowering) -> None:
    """GATHER; the axes of the indices take the place of the one they pick from. Even steps are a STRIDED_SLICE."""
    rank = len(ctx.shape(0))
    axis = ctx.attr("axis", 0) % rank
    places = ctx.input(1)
    if ctx.storage.keeps != "float":
        whole = ctx.number(ctx.shape(0)[axis], np.int32)
        indices = Integers(ctx).cast(positive(ctx, 1, ctx.plain(1), whole), np.int32)
        if look_up(ctx, indices):
            return
    view = ctx.input(0)
    place = view.layout.index(axis)
    steps = _even(places.tensor.data, view.tensor.shape[place])
    if steps is not None and place not in view.tensor.dynamic and view.tensor.dtype.name in _SLICED:
        _slice(ctx, view, place, steps, kept=len(places.layout) == 1)
        return
    more = len(ctx.shape(1)) - 1
    length = Integers(ctx).lengths(view.tensor, [place])
    scalar = Integers(ctx).reshape(length, ())
    indices = positive(ctx, 1, places.tensor, scalar)
    kept = [NEW if a == NEW else a + more if a > axis else a for a in view.layout]
    middle = [NEW if a == NEW else axis + a for a in places.layout]
    layout = (*kept[:place], *middle, *kept[place + 1 :])
    result = ctx.output(layout)
    with delivering(ctx, result) as target:
        ctx.emit("GATHER", [carried(ctx, view.tensor), indices], [target], "GatherOptions", axis=place, batchDims=0)


_SLICED = {"float32", "int32", "int64", "int8", "uint8", "bool"}


def _even(indices: Array | None, length: int) -> range | None:
    """The range that constant indices of rank 0 or 1 walk through, if they do."""
    if indices is None or indices.ndim > 1 or indices.size == 0:
        return None
    found = np.where(indices < 0, indices + length, indices).reshape(-1)
    step = int(found[1] - found[0]) if found.size > 1 else 1
    even = range(int(found[0]), int(found[0]) + step * found.size, step) if step > 0 else range(0)
    return even if len(even) == found.size and np.array_equal(found, even) and found[-1] < length else None


def _slice(ctx: Lowering, view: View, place: int, steps: range, *, kept: bool) -> None:
    """The axis is walked over, and where it is not ``kept``, left unnamed."""
    layout = tuple(NEW if a == NEW or (i == place and not kept) else a for i, a in enumerate(view.layout))
    axis = view.layout[place]
    if not kept:
        layout = tuple(a - 1 if a > axis else a for a in layout)
    begin, end, stride = [0] * len(layout), list(view.tensor.shape), [1] * len(layout)
    begin[place], end[place], stride[place] = steps.start, steps.stop, steps.step
    masked = sum(1 << i for i in view.tensor.dynamic)
    numbers = [ctx.ints(n) for n in (begin, end, stride)]
    ctx.emit("STRIDED_SLICE", [view.tensor, *numbers], [ctx.output(layout)], "StridedSliceOptions",
             beginMask=masked, endMask=masked)  # fmt: skip


def gather_elements(ctx: Lowering) -> None:
    """GATHER along the last axis, one row for each row of indices."""
    shape, picked = ctx.shape(0), ctx.shape(1)
    rank = len(shape)
    axis = ctx.attr("axis", 0) % rank
    layout = (*(a for a in ctx.input(0).axes if a != axis), axis)
    source, indices = ctx.input(0, layout).tensor, ctx.input(1, layout).tensor
    source = carried(ctx, source)
    lead = frozenset(range(rank - 1))
    if indices.dynamic & lead - source.dynamic:
        raise ctx.refuse("indices", "follow the batch where the data does not", "export with a fixed batch")
    if [picked[a] for a in layout[:-1]] != [shape[a] for a in layout[:-1]] or source.dynamic & lead - indices.dynamic:
        source = _cut(ctx, source, [-1 if i in indices.dynamic else picked[a] for i, a in enumerate(layout[:-1])])
    length = Integers(ctx).reshape(Integers(ctx).lengths(source, [rank - 1]), ())
    indices = positive(ctx, 1, indices, length)
    with delivering(ctx, ctx.output(layout)) as target:
        ctx.emit("GATHER", [source, indices], [target], "GatherOptions", axis=rank - 1, batchDims=rank - 1)


def _cut(ctx: Lowering, source: Tensor, sizes: list[int]) -> Tensor:
    """The first ``sizes`` of the leading axes (-1: all that follow the batch)."""
    last = len(sizes)
    ends = [*sizes, -1 if last in source.dynamic else source.shape[-1]]
    shape = [source.shape[i] if n == -1 else n for i, n in enumerate(ends)]
    moves = frozenset(i for i, n in enumerate(ends) if n == -1)
    result = ctx.program.temp(source, shape, moves, f"{ctx.result.name}/part")
    ctx.emit("SLICE", [source, ctx.ints([0] * len(ends)), ctx.ints(ends)], [result], "SliceOptions")
    return result


def gather_nd(ctx: Lowering) -> None:
    """GATHER_ND; with batch_dims a GATHER whose indices count through all picked axes."""
    batch = ctx.attr("batch_dims", 0)
    source, indices = ctx.plain(0), ctx.plain(1)
    depth = indices.shape[-1]
    steps = Integers(ctx)
    if 0 in (depth, *indices.shape) or len(indices.shape) - 1 in indices.dynamic:
        raise ctx.refuse("indices", f"of shape {indices.shape}", "give at least one index, of a fixed length")
    length = steps.lengths(source, range(batch, batch + depth))
    indices = positive(ctx, 1, indices, length)
    source = carried(ctx, source)
    result = ctx.output(identity(len(ctx.out_shape())))
    if batch == 0:
        with delivering(ctx, result) as target:
            ctx.emit("GATHER_ND", [source, indices], [target], "GatherNdOptions")
        return
    if source.dynamic - {0} or indices.dynamic - {0}:
        raise ctx.refuse("data", "an axis after the first follows the batch", "export with a fixed batch")
    rows = steps.sum_last(steps.binary("MUL", indices, _strides(source.shape[batch : batch + depth], indices.dtype)))
    lead, moves = int(np.prod(source.shape[:batch])), source.dynamic
    rows = steps.reshape(rows, (lead, int(np.prod(rows.shape[batch:]))), moves)
    flat = (lead, int(np.prod(source.shape[batch : batch + depth])), *source.shape[batch + depth :])
    picked = steps.new(source.dtype, (lead, rows.shape[1], *flat[2:]), moves, "picked")
    ctx.emit("GATHER", [steps.reshape(source, flat, moves), rows], [picked], "GatherOptions", axis=1, batchDims=1)
    with delivering(ctx, result) as target:
        ctx.program.reshape_into(picked, target)


def _strides(sizes: tuple[int, ...], dtype: np.dtype[np.generic]) -> np.ndarray:
    """Elements from one index to the next along each axis, the last one 1."""
    return np.cumprod([1, *sizes[:0:-1]])[::-1].astype(dtype)


def _picked_shape(node: ir.Node) -> list[tuple[int, ...]]:
    """The shape that GatherND gives; onnx leaves a scalar out."""
    data, indices = (graph.shape_of(v) or () for v in node.inputs if v is not None)
    skipped = node.attributes.get_int("batch_dims", 0) + (indices[-1] or 0)
    return [tuple(n for n in (*indices[:-1], *data[skipped:]) if n is not None)]


_BY_INDEX: tuple[InputRole, ...] = ("activation", "static")

ROWS = (
    Op("Gather", Same(), _BY_INDEX, lower=gather, types=STORED, int16=Same()),
    Op("GatherElements", Same(), _BY_INDEX, lower=gather_elements, types=STORED),
    Op("GatherND", Same(), _BY_INDEX, lower=gather_nd, infer=_picked_shape, types=STORED, int16=Same()),
)
