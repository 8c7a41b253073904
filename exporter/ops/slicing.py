"""Cutting tensors into parts, along the axes as they lie."""

from __future__ import annotations

import itertools

from exporter.ops.lowering import Lowering
from exporter.ops.op import STORED, InputRole, Op, Same

__all__ = ["ROWS"]

_FAR = 2**31 - 1  # beyond every axis
_SPLIT = ("float32", "int64", "int32", "int16", "int8", "uint8")  # what SPLIT and SPLIT_V take


def slice_(ctx: Lowering) -> None:
    """STRIDED_SLICE; along the batch with the bounds as they are, which count from the end where negative."""
    shape = ctx.shape(0)
    rank = len(shape)
    starts, ends = ctx.static(1, "starts"), ctx.static(2, "ends")
    axes = [int(a) % rank for a in ctx.static(3, "axes", list(range(len(starts))))]
    steps = ctx.static(4, "steps", [1] * len(starts))
    view = ctx.input()
    count = len(view.layout)
    begin, end, stride, from_first, to_last = [0] * count, list(view.tensor.shape), [1] * count, set(), set()
    for place in view.tensor.dynamic:
        from_first.add(place)
        to_last.add(place)
    for axis, first, last, step in zip(axes, starts, ends, steps, strict=True):
        place, stride[view.layout.index(axis)] = view.layout.index(axis), max(-_FAR, min(_FAR, int(step)))
        from_first.discard(place)
        to_last.discard(place)
        if place in view.tensor.dynamic:
            begin[place], end[place] = max(-_FAR, min(_FAR, int(first))), max(-_FAR, min(_FAR, int(last)))
            if (step > 0 and begin[place] == -_FAR) or (step < 0 and begin[place] == _FAR):
                from_first.add(place)
            if abs(end[place]) == _FAR:
                to_last.add(place)
            continue
        window = range(*slice(int(first), int(last), int(step)).indices(shape[axis]))
        begin[place], end[place] = window.start, window.stop
        if not window:
            begin[place] = end[place] = min(1, shape[axis])  # XNNPACK takes an end of 0 for the far end
            stride[place] = 1
        elif window.stop < 0:  # -1 would be the last one
            to_last.add(place)
    numbers = [ctx.ints(begin), ctx.ints(end), ctx.ints(stride)]
    ctx.emit("STRIDED_SLICE", [view.tensor, *numbers], [ctx.output(view.layout)], "StridedSliceOptions",
             beginMask=_mask(from_first), endMask=_mask(to_last))  # fmt: skip


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
    Op("Slice", Same(), _TAIL, lower=slice_, types=STORED),
    Op("Split", Same(), _TAIL, lower=split, types=STORED, ignores=("num_outputs",)),
)
