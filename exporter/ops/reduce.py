"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

from exporter.ops.lowering import NEW, Layout, Lowering
from exporter.ops.op import NUMBERS, Float, Free, Op

__all__ = ["ROWS", "removed"]


def removed(layout: Layout, axes: set[int]) -> Layout:
    """The layout of what is left when ``axes`` of the value (and their physical axes) are gone."""
    kept = sorted(a for a in layout if a != NEW and a not in axes)
    return tuple(NEW if a == NEW else kept.index(a) for a in layout if a not in axes)


def reduction(code: str) -> Callable[[Lowering], None]:
    """One reducer over the physical places of the axes."""

    def lower(ctx: Lowering) -> None:
        rank = len(ctx.shape(0))
        axes = ctx.static(1, "axes", ctx.attr("axes"))
        noop = ctx.attr("noop_with_empty_axes", 0)
        if not axes:
            axes = [] if noop else list(range(rank))
        wanted = {int(a) % rank for a in axes}
        view = ctx.input()
        if not wanted:
            ctx.alias(view)
            return
        keep = bool(ctx.attr("keepdims", 1))
        places = [view.layout.index(a) for a in sorted(wanted)]
        layout = view.layout if keep else removed(view.layout, wanted)
        result = ctx.output(layout)
        ctx.emit(code, [view.tensor, ctx.ints(places)], [result], "ReducerOptions", keepDims=keep)

    return lower


def argument(code: str, options: str) -> Callable[[Lowering], None]:
    """ARG_MAX or ARG_MIN along one axis, then the kept dimension by RESHAPE."""

    def lower(ctx: Lowering) -> None:
        if ctx.attr("select_last_index", 0):
            raise ctx.refuse("select_last_index", "1", "TFLite gives the first")
        view, axis = ctx.input(), ctx.attr("axis", 0) % len(ctx.shape(0))
        place = ctx.ints(view.layout.index(axis))
        keep = bool(ctx.attr("keepdims", 1))
        result = ctx.output(view.layout if keep else removed(view.layout, {axis}))
        target = result
        if keep:
            spot = view.layout.index(axis)
            shape = tuple(s for i, s in enumerate(result.shape) if i != spot)
            moved = frozenset(i - (i > spot) for i in result.dynamic)
            target = ctx.program.temp(result, shape, moved, f"{ctx.result.name}/index")
        ctx.emit(code, [view.tensor, place], [target], options, outputType=4)  # TensorType.INT64
        if keep:
            ctx.program.reshape_into(target, result)

    return lower


_NO_INT = Float("no integer kernel in ONNX Runtime")

ROWS = (
    Op("ReduceMean", Free(), ("activation", "static"), lower=reduction("MEAN")),
    Op("ReduceSum", _NO_INT, ("activation", "static"), lower=reduction("SUM"), types=NUMBERS),
    Op("ReduceMax", _NO_INT, ("activation", "static"), lower=reduction("REDUCE_MAX"), types=NUMBERS),
    Op("ReduceMin", _NO_INT, ("activation", "static"), lower=reduction("REDUCE_MIN"), types=NUMBERS),
    Op("ReduceProd", _NO_INT, ("activation", "static"), lower=reduction("REDUCE_PROD"), types=NUMBERS),
    Op("ArgMax", _NO_INT, lower=argument("ARG_MAX", "ArgMaxOptions")),
    Op("ArgMin", _NO_INT, lower=argument("ARG_MIN", "ArgMinOptions")),
)
