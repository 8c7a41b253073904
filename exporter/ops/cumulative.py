"""Running sums and products along an axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.moves import Moves
from exporter.ops.op import Float, Op
from exporter.ops.steps import Steps
from exporter.ops.widened import RING, Turns, widened

__all__ = ["ROWS"]


def _place(ctx: Lowering, layout: tuple[int, ...]) -> int:
    axis = int(np.asarray(ctx.static(1, "axis")).item())
    return layout.index(axis % len(ctx.shape(0)))


def cumulative_sum(ctx: Lowering) -> None:
    """CUMSUM."""
    view = ctx.input()
    exclusive, reverse = bool(ctx.attr("exclusive", 0)), bool(ctx.attr("reverse", 0))
    inputs = [view.tensor, ctx.ints(_place(ctx, view.layout))]
    ctx.emit("CUMSUM", inputs, [ctx.output(view.layout)], "CumsumOptions", exclusive=exclusive, reverse=reverse)


def cumulative_product(ctx: Lowering) -> None:
    """Times itself 1, 2, 4 … places on (Hillis and Steele 1986)."""
    view, steps = ctx.input(), Steps(ctx)
    place, reverse = _place(ctx, view.layout), bool(ctx.attr("reverse", 0))
    source, length = view.tensor, view.tensor.shape[place]
    if place in source.dynamic:
        raise ctx.refuse("axis", "the batch", "another axis works")
    distance, result = 1, ctx.output(view.layout)
    exclusive = bool(ctx.attr("exclusive", 0))
    if length < 2:
        steps.maximum(steps.minimum(source, 1), 1, result) if exclusive else steps.mul(source, 1, result)
    elif exclusive:
        source = _moved(ctx, source, place, 1, reverse)
    while distance < length:
        last = 2 * distance >= length
        source = steps.mul(source, _moved(ctx, source, place, distance, reverse), result if last else None)
        distance *= 2


def _moved(ctx: Lowering, x: Tensor, place: int, distance: int, reverse: bool) -> Tensor:
    """x, ``distance`` places on, with ones where nothing was."""
    width = (-distance, distance) if reverse else (distance, -distance)
    widths = [width if i == place else (0, 0) for i in range(len(x.shape))]
    return Moves(ctx).pad(x, widths, ctx.number(1, x.dtype))


_SUMS = Float("no integer kernel in ONNX Runtime")
_TURNS: Turns = {name: turn for name, turn in RING.items() if turn[1] != "int32" or name == "uint32"}


def _row(op: str, lower: Callable[[Lowering], None]) -> Op:
    types = ("float32", "int32", "int64", *_TURNS)
    return Op(op, _SUMS, ("activation", "static"), lower=widened(lower, _TURNS), types=types)


ROWS = (_row("CumSum", cumulative_sum), _row("CumProd", cumulative_product))
