"""Cutting tensors into parts, along the axes as they lie."""

from __future__ import annotations

import itertools

import numpy as np

from exporter.ops.integers import Integers
from exporter.ops.lowering import Array, Lowering
from exporter.ops.op import STORED, InputRole, Op, Same

__all__ = ["ROWS"]

_FAR = 2**31 - 1  # beyond every axis
_SPLIT = ("float32", "int64", "int32", "int16", "int8", "uint8")  # what SPLIT and SPLIT_V take


def slice_(ctx: Lowering) -> None:
    """STRIDED_SLICE.

    Along an axis that follows the batch the bounds stay as they are, counted from the end where negative: the kernel
    reads them as ONNX does, up to those beyond every axis, which become masks.
    """
    if not all(_is_known(ctx, i) for i in (1, 2)):
        _computed_slice(ctx)
        return
    shape, rank = ctx.shape(0), len(ctx.shape(0))
    starts, ends = _bound(ctx, 1, "starts"), _bound(ctx, 2, "ends")
    axes = [int(a) % rank for a in np.atleast_1d(ctx.static(3, "axes", list(range(len(starts[0])))))]
    steps = [int(n) for n in np.atleast_1d(ctx.static(4, "steps", [1] * len(axes)))]
    view = ctx.input()
    place = [view.layout.index(a) for a in axes]
    begin, end, stride = [0] * len(view.layout), list(view.tensor.shape), [1] * len(view.layout)
    grow = [np.zeros(len(view.layout), np.int32) for _ in range(2)]
    from_first, to_last = set(view.tensor.dynamic), set(view.tensor.dynamic)
    for i, (p, step) in enumerate(zip(place, steps, strict=True)):
        stride[p] = max(-_FAR, min(_FAR, step))
        first, last = int(starts[0][i]), int(ends[0][i])
        grow[0][p], grow[1][p] = starts[1][i], ends[1][i]
        if p in view.tensor.dynamic or grow[0][p] or grow[1][p]:
            begin[p], end[p] = max(-_FAR, min(_FAR, first)), max(-_FAR, min(_FAR, last))
            from_first = from_first - {p} | ({p} if begin[p] == (-_FAR if step > 0 else _FAR) else set())
            to_last = to_last - {p} | ({p} if abs(end[p]) == _FAR else set())
            continue
        window = range(*slice(first, last, step).indices(shape[axes[i]]))
        begin[p], end[p] = window.start, window.stop
        if not window:
            begin[p] = end[p] = min(1, shape[axes[i]])  # XNNPACK takes an end of 0 for the far end
            stride[p] = 1
        elif window.stop < 0:  # -1 would be the last one
            to_last.add(p)
    numbers = [
        ctx.values.numbers(np.asarray(n, np.int32), g) if g.any() else ctx.ints(n)
        for n, g in zip((begin, end), grow, strict=True)
    ]
    ctx.emit("STRIDED_SLICE", [view.tensor, *numbers, ctx.ints(stride)], [ctx.output(view.layout)],
             "StridedSliceOptions", beginMask=_mask(from_first), endMask=_mask(to_last))  # fmt: skip


def _bound(ctx: Lowering, index: int, name: str) -> tuple[Array, Array]:
    """Bounds, and how much each grows with the batch."""
    law = ctx.values.law(ctx.node.inputs[index])
    if law is not None:
        return law
    fixed = np.atleast_1d(np.asarray(ctx.static(index, name), np.int64))
    return fixed, np.zeros_like(fixed)


def _is_known(ctx: Lowering, index: int) -> bool:
    value = ctx.node.inputs[index]
    return ctx.values.constant(value) is not None or ctx.values.law(value) is not None


def _computed_slice(ctx: Lowering) -> None:
    """STRIDED_SLICE in ONNX order by bounds that the run gives, brought within int32."""
    source, rank, ints = ctx.plain(0), len(ctx.shape(0)), Integers(ctx)
    count = ctx.shape(1)[0]
    axes = [int(a) % rank for a in np.atleast_1d(ctx.static(3, "axes", list(range(count))))]
    steps = dict(zip(axes, np.atleast_1d(ctx.static(4, "steps", [1] * count)).tolist(), strict=True))
    places = ints.constant([axes.index(a) if a in axes else count for a in range(rank)])
    numbers = []
    for index in (1, 2):
        bound = ctx.plain(index)
        if bound.dtype == np.int64:
            bound = ints.binary("MINIMUM", ints.binary("MAXIMUM", bound, -_FAR), _FAR)
        whole = ints.new(np.int32, (count + 1,), tag="bounds")
        ctx.emit("CONCATENATION", [ints.cast(bound, np.int32), ints.constant([0])], [whole], "ConcatenationOptions",
                 axis=0, fusedActivationFunction="NONE")  # fmt: skip
        numbers.append(ints.new(np.int32, (rank,), tag="bounds"))
        ctx.emit("GATHER", [whole, places], [numbers[-1]], "GatherOptions", axis=0, batchDims=0)
    strides = ints.constant([steps.get(a, 1) for a in range(rank)])
    others = _mask(set(range(rank)) - set(axes))
    ctx.emit("STRIDED_SLICE", [source, *numbers, strides], [ctx.output()], "StridedSliceOptions",
             beginMask=others, endMask=others)  # fmt: skip


def _mask(places: set[int]) -> int:
    return sum(1 << p for p in places)


def split(ctx: Lowering) -> None:
    """SPLIT into equal parts, else SPLIT_V; SLICE where they lack the type."""
    axis = ctx.attr("axis", 0) % len(ctx.shape(0))
    view = ctx.input()
    place = view.layout.index(axis)
    count = len(ctx.node.outputs)
    if count == 1:
        ctx.alias(view)
        return
    if place in view.tensor.dynamic:
        raise ctx.refuse("axis", "splits the batch", "export with a fixed batch")
    sizes = [ctx.out_shape(i)[axis] for i in range(count)]
    results = [ctx.output(view.layout, i) for i in range(count)]
    if view.tensor.dtype.name not in _SPLIT:
        for result, start in zip(results, itertools.accumulate(sizes, initial=0), strict=False):
            begin = [start if i == place else 0 for i in range(len(view.layout))]
            size = [-1 if i in result.dynamic else n for i, n in enumerate(result.shape)]
            ctx.emit("SLICE", [view.tensor, ctx.ints(begin), ctx.ints(size)], [result], "SliceOptions")
    elif len(set(sizes)) == 1:
        ctx.emit("SPLIT", [ctx.ints(place), view.tensor], results, "SplitOptions", numSplits=count)
    else:
        ctx.emit("SPLIT_V", [view.tensor, ctx.ints(sizes), ctx.ints(place)], results, "SplitVOptions", numSplits=count)


_TAIL: tuple[InputRole, ...] = ("activation", "static")

ROWS = (
    Op("Slice", Same(), _TAIL, lower=slice_, types=STORED, int16=Same()),
    Op("Split", Same(), _TAIL, lower=split, types=STORED, ignores=("num_outputs",), int16=Same()),
)
