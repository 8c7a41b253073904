"""Softmax and its kin, along any one axis."""

from __future__ import annotations

from exporter.ops.lowering import Lowering, Tensor, View
from exporter.ops.op import Fixed, Float, Op
from exporter.ops.widened import REAL, widened

__all__ = ["ROWS", "log_softmax"]


def _axis_last(ctx: Lowering, default: int = -1) -> View:
    """The input with its ``axis`` as the last one of the tensor."""
    rank = len(ctx.shape(0))
    axis = ctx.attr("axis", default) % rank
    layout = ctx.input().layout
    if layout[-1] != axis:
        layout = (*(a for a in range(rank) if a != axis), axis)
    return ctx.input(0, layout)


def softmax(ctx: Lowering) -> None:
    """SOFTMAX."""
    view = _axis_last(ctx)
    ctx.emit("SOFTMAX", [view.tensor], [ctx.output(view.layout)], "SoftmaxOptions", beta=1.0)


def _log_softmax(ctx: Lowering) -> None:
    view = _axis_last(ctx)
    log_softmax(ctx, view.tensor, ctx.output(view.layout))


def log_softmax(ctx: Lowering, source: Tensor, into: Tensor) -> Tensor:
    """LOG_SOFTMAX over the last axis of the tensor."""
    ctx.emit("LOG_SOFTMAX", [source], [into], "LogSoftmaxOptions")
    return into


def hardmax(ctx: Lowering) -> None:
    """ONE_HOT of ARG_MAX, which finds the first of equals as ONNX wants."""
    view = _axis_last(ctx)
    source, rank = view.tensor, len(view.tensor.shape)
    dynamic = frozenset(i for i in source.dynamic if i < rank - 1)
    place = Tensor(ctx.program.name(f"{ctx.result.name}/index"), source.shape[:-1], ctx.ints(0).dtype, dynamic)
    ctx.emit("ARG_MAX", [source, ctx.ints(rank - 1)], [place], "ArgMaxOptions", outputType=_INT32)
    inputs = [place, ctx.ints(source.shape[-1]), ctx.number(1.0), ctx.number(0.0)]
    ctx.emit("ONE_HOT", inputs, [ctx.output(view.layout)], "OneHotOptions", axis=-1)


_INT32 = 2  # TensorType.INT32
_NO_INT = Float("no integer kernel in ONNX Runtime")
_TYPES = ("float32", *REAL)

ROWS = (
    Op("Softmax", Fixed(1 / 256, -128), lower=widened(softmax, REAL), types=_TYPES, int16=Fixed(1 / 32768, 0)),
    Op("LogSoftmax", _NO_INT, lower=widened(_log_softmax, REAL), types=_TYPES),
    Op("Hardmax", _NO_INT, lower=widened(hardmax, REAL), types=_TYPES),
)
