"""Activations and other functions of one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.elementwise import aligned
from exporter.ops.lowering import Lowering
from exporter.ops.op import ANY, Fixed, Float, Free, Op
from exporter.ops.steps import Steps

__all__ = ["ROWS"]

_CLAMPS = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): "RELU_0_TO_1"}


def unary(code: str, options: str = "", **fields: Any) -> Callable[[Lowering], None]:
    """One builtin, in whatever layout the input lies."""

    def lower(ctx: Lowering) -> None:
        view = ctx.input()
        ctx.emit(code, [view.tensor], [ctx.output(view.layout)], options, **fields)

    return lower


def clip(ctx: Lowering) -> None:
    """RELU and its bounded kin, else MINIMUM and MAXIMUM."""
    low, high = (ctx.static(1, "min", -math.inf), ctx.static(2, "max", math.inf))
    low, high = (float(np.asarray(b).item()) for b in (low, high))
    view = ctx.input()
    code = _CLAMPS.get((low, high))
    if code is not None:
        ctx.emit(code, [view.tensor], [ctx.output(view.layout)])
        return
    if math.isinf(low) and math.isinf(high):
        ctx.alias(view)
        return
    tensor = view.tensor
    if not math.isinf(low):
        result = ctx.output(view.layout) if math.isinf(high) else ctx.temp(tensor, tag="low")
        ctx.emit("MAXIMUM", [tensor, ctx.number(low)], [result], "MaximumMinimumOptions")
        tensor = result
    if not math.isinf(high):
        ctx.emit("MINIMUM", [tensor, ctx.number(high)], [ctx.output(view.layout)], "MaximumMinimumOptions")


def _clip_int8(node: ir.Node) -> bool:
    bounds = []
    for index, default in ((1, -math.inf), (2, math.inf)):
        value = node.inputs[index] if index < len(node.inputs) else None
        array = graph.constant(value)
        bounds.append(default if value is None else math.nan if array is None else float(array.item()))
    return tuple(bounds) in {(0.0, math.inf), (0.0, 6.0)}


def leaky_relu(ctx: Lowering) -> None:
    """LEAKY_RELU."""
    view = ctx.input()
    alpha = float(ctx.attr("alpha", 0.01))
    ctx.emit("LEAKY_RELU", [view.tensor], [ctx.output(view.layout)], "LeakyReluOptions", alpha=alpha)


def prelu(ctx: Lowering) -> None:
    """PRELU; the slope is broadcast."""
    view = ctx.input()
    slope = aligned(ctx, 1, view.layout, len(ctx.shape(0)))
    ctx.emit("PRELU", [view.tensor, slope], [ctx.output(view.layout)])


def softmax(ctx: Lowering) -> None:
    """SOFTMAX over the last physical axis."""
    code, options, fields = "SOFTMAX", "SoftmaxOptions", {"beta": 1.0}
    if ctx.node.op_type == "LogSoftmax":
        code, options, fields = "LOG_SOFTMAX", "LogSoftmaxOptions", {}
    rank = len(ctx.shape(0))
    axis = ctx.attr("axis", -1) % rank
    layout = ctx.input().layout
    if layout[-1] != axis:
        layout = (*(a for a in range(rank) if a != axis), axis)
    source = ctx.input(0, layout).tensor
    ctx.emit(code, [source], [ctx.output(layout)], options, **fields)


def gelu(ctx: Lowering) -> None:
    """GELU, exact or by tanh."""
    view = ctx.input()
    near = ctx.attr("approximate", "none") == "tanh"
    ctx.emit("GELU", [view.tensor], [ctx.output(view.layout)], "GeluOptions", approximate=near)


def erf(ctx: Lowering) -> None:
    """Abramowitz and Stegun 7.1.26: |error| < 1.5e-7; TFLite has no ERF."""
    view = ctx.input()
    steps = Steps(ctx)
    t = steps.div(1.0, steps.add(steps.mul(steps.unary("ABS", view.tensor), 0.3275911), 1.0))
    poly = steps.add(steps.mul(t, 1.061405429), -1.453152027)
    for factor in (1.421413741, -0.284496736, 0.254829592):
        poly = steps.add(steps.mul(poly, t), factor)
    tail = steps.unary("EXP", steps.unary("NEG", steps.mul(view.tensor, view.tensor)))
    positive = steps.sub(1.0, steps.mul(steps.mul(poly, t), tail))
    steps.mul(steps.unary("SIGN", view.tensor), positive, ctx.output(view.layout))


def hard_sigmoid(ctx: Lowering) -> None:
    """Clip(alpha x + beta, 0, 1)."""
    view = ctx.input()
    steps = Steps(ctx)
    scaled = steps.mul(view.tensor, float(ctx.attr("alpha", 0.2)))
    steps.unary("RELU_0_TO_1", steps.add(scaled, float(ctx.attr("beta", 0.5))), ctx.output(view.layout))


def reciprocal(ctx: Lowering) -> None:
    """1 / x."""
    view = ctx.input()
    Steps(ctx).div(1.0, view.tensor, ctx.output(view.layout))


def cast(ctx: Lowering) -> None:
    """CAST; to its own type it is nothing."""
    wanted = ctx.node.outputs[0].dtype
    view = ctx.input()
    if wanted is None or wanted.numpy().name not in ANY:
        raise ctx.refuse("to", str(wanted), f"can be {', '.join(ANY)}")
    if view.tensor.dtype == wanted.numpy():
        ctx.alias(view)
        return
    ctx.emit("CAST", [view.tensor], [ctx.output(view.layout)], "CastOptions")


_NO_INT = Float("no integer kernel in ONNX Runtime")

ROWS = (
    Op("Relu", Free(), lower=unary("RELU")),
    Op("Clip", Free(), ("activation", "static", "static"), lower=clip, int8_when=_clip_int8),
    Op("LeakyRelu", Free(), lower=leaky_relu),
    Op("PRelu", _NO_INT, lower=prelu),
    Op("Sigmoid", Fixed(1 / 256, -128), lower=unary("LOGISTIC")),
    Op("Tanh", Fixed(1 / 128, 0), lower=unary("TANH")),
    Op("Softmax", Fixed(1 / 256, -128), lower=softmax),
    Op("LogSoftmax", _NO_INT, lower=softmax),
    Op("HardSigmoid", _NO_INT, lower=hard_sigmoid),
    Op("HardSwish", _NO_INT, lower=unary("HARD_SWISH", "HardSwishOptions")),
    Op("Elu", _NO_INT, lower=unary("ELU")),
    Op("Gelu", _NO_INT, lower=gelu),
    Op("Erf", _NO_INT, lower=erf),
    Op("Exp", _NO_INT, lower=unary("EXP", "ExpOptions")),
    Op("Log", _NO_INT, lower=unary("LOG")),
    Op("Sqrt", _NO_INT, lower=unary("SQRT")),
    Op("Reciprocal", _NO_INT, lower=reciprocal),
    Op("Neg", _NO_INT, lower=unary("NEG", "NegOptions")),
    Op("Abs", _NO_INT, lower=unary("ABS", "AbsOptions")),
    Op("Sin", _NO_INT, lower=unary("SIN")),
    Op("Cos", _NO_INT, lower=unary("COS")),
    Op("Floor", _NO_INT, lower=unary("FLOOR")),
    Op("Ceil", _NO_INT, lower=unary("CEIL")),
    Op("Round", _NO_INT, lower=unary("ROUND")),
    Op("Not", _NO_INT, lower=unary("LOGICAL_NOT", "LogicalNotOptions"), types=("bool",)),
    Op("Cast", Float("changes the element type"), lower=cast, types=ANY, ignores=("to",)),
)
