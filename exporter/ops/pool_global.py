"""Pooling over whole feature maps: reductions, in whatever layout they lie."""

from __future__ import annotations

from collections.abc import Callable

from exporter.ops.lowering import Lowering
from exporter.ops.op import Float, Free, Op, Same
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, REALS, widened

__all__ = ["ROWS"]


def _spatial(ctx: Lowering) -> list[int]:
    layout = ctx.input().layout
    return sorted(layout.index(axis) for axis in range(2, len(ctx.shape(0))))


def global_pool(code: str) -> Callable[[Lowering], None]:
    """A reduction over the spatial axes: MEAN rounds as ONNX Runtime does, AVERAGE_POOL_2D does not."""

    def lower(ctx: Lowering) -> None:
        view = ctx.input()
        Steps(ctx).reduce(code, view.tensor, _spatial(ctx), ctx.output(view.layout))

    return lower


def global_lp_pool(ctx: Lowering) -> None:
    """(sum of |x|^p) ^ (1/p)."""
    power = float(ctx.attr("p", 2))
    view, steps = ctx.input(), Steps(ctx)
    result = ctx.output(view.layout)
    raised = steps.mul(view.tensor, view.tensor) if power == 2 else steps.unary("ABS", view.tensor)
    if power == 1:
        steps.reduce("SUM", raised, _spatial(ctx), result)
    elif power == 2:
        steps.unary("SQRT", steps.reduce("SUM", raised, _spatial(ctx)), result)
    else:
        total = steps.reduce("SUM", steps.binary("POW", raised, power), _spatial(ctx))
        steps.binary("POW", total, 1 / power, result)


ROWS = (
    Op("GlobalMaxPool", Same(), lower=widened(global_pool("REDUCE_MAX"), REAL), types=REALS, int16=Same()),
    Op("GlobalAveragePool", Free(), lower=widened(global_pool("MEAN"), REAL), types=REALS, int16=Free()),
    Op(
        "GlobalLpPool",
        Float("no integer kernel in either runtime"),
        lower=widened(global_lp_pool, REAL),
        types=REALS,
    ),
)
