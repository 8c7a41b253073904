"""Activations that are straight lines, or exponentials below zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from exporter import graph
from exporter.ops.elementwise import aligned
from exporter.ops.lowering import Array, Lowering, Tensor
from exporter.ops.op import Float, Free, InputRole, Op
from exporter.ops.steps import Steps, options_of
from exporter.ops.widened import BOUNDS, BOUNDS_TAKE, REAL, RING, Lower, widened

__all__ = ["ROWS", "builtin"]

_CLAMPS = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): "RELU_0_TO_1"}


def builtin(code: str, **fields: Callable[[Lowering], Any]) -> Lower:
    """One builtin of one tensor, in whatever layout it lies; ``fields`` say how options follow from the node."""

    def lower(ctx: Lowering) -> None:
        view = ctx.input()
        found = {name: read(ctx) for name, read in fields.items()}
        ctx.emit(code, [view.tensor], [ctx.output(view.layout)], options_of(code), **found)

    return lower


def relu(ctx: Lowering) -> None:
    """RELU, or MAXIMUM for integers."""
    view = ctx.input()
    if view.tensor.dtype.kind == "f" or ctx.integer:
        ctx.emit("RELU", [view.tensor], [ctx.output(view.layout)])
    else:
        Steps(ctx).maximum(view.tensor, 0, ctx.output(view.layout))


def clip(ctx: Lowering) -> None:
    """RELU and its bounded kin, else MAXIMUM and MINIMUM, in this order: the upper bound wins."""
    view, steps = ctx.input(), Steps(ctx)
    low, high = _bound(ctx, 1, -math.inf), _bound(ctx, 2, math.inf)
    if isinstance(low, float) and isinstance(high, float) and (low, high) in _CLAMPS:
        ctx.emit(_CLAMPS[low, high], [view.tensor], [ctx.output(view.layout)])
        return
    bounds = [("MAXIMUM", low)] if low != -math.inf else []
    bounds += [("MINIMUM", high)] if high != math.inf else []
    if not bounds:
        ctx.alias(view)
    tensor = view.tensor
    for number, (code, bound) in enumerate(bounds, 1):
        tensor = steps.binary(code, tensor, bound, ctx.output(view.layout) if number == len(bounds) else None)


def _bound(ctx: Lowering, index: int, default: float) -> Tensor | float | Array:
    if not ctx.has(index):
        return default
    array = ctx.const(index)
    if array is None:
        return ctx.program.reshape(ctx.input(index).tensor, [], frozenset())
    return float(array.item()) if array.dtype.kind == "f" else array.reshape(())


def _clip_int8(node: ir.Node) -> bool:
    bounds = []
    for index, default in ((1, -math.inf), (2, math.inf)):
        value = node.inputs[index] if index < len(node.inputs) else None
        array = graph.constant(value)
        bounds.append(default if value is None else math.nan if array is None else float(array.item()))
    return tuple(bounds) in {(0.0, math.inf), (0.0, 6.0)}


def prelu(ctx: Lowering) -> None:
    """PRELU; for integers x * slope where x is negative."""
    view, steps = ctx.input(), Steps(ctx)
    slope = aligned(ctx, 1, view.layout, len(ctx.shape(0)))
    if view.tensor.dtype.kind == "f":
        ctx.emit("PRELU", [view.tensor, slope], [ctx.output(view.layout)])
        return
    negative = steps.binary("LESS", view.tensor, 0)
    steps.select(negative, steps.mul(view.tensor, slope), view.tensor, ctx.output(view.layout))


def elu(ctx: Lowering) -> None:
    """ELU (alpha 1); another alpha scales what it makes of min(x, 0)."""
    view, alpha = ctx.input(), float(ctx.attr("alpha", 1.0))
    if alpha == 1.0:
        ctx.emit("ELU", [view.tensor], [ctx.output(view.layout)])
    else:
        _exponential(ctx, view.tensor, 1.0, alpha, 1.0, ctx.output(view.layout))


def _elu_int8(node: ir.Node) -> bool:
    return node.attributes.get_float("alpha", 1.0) == 1.0


def selu(ctx: Lowering) -> None:
    """gamma * (x or alpha * (exp(x) - 1)) (Klambauer et al. 2017)."""
    alpha = float(ctx.attr("alpha", 1.67326319217681884765625))
    gamma = float(ctx.attr("gamma", 1.05070102214813232421875))
    view = ctx.input()
    _exponential(ctx, view.tensor, gamma, gamma * alpha, 1.0, ctx.output(view.layout))


def celu(ctx: Lowering) -> None:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)) (Barron 2017)."""
    view, alpha = ctx.input(), float(ctx.attr("alpha", 1.0))
    if alpha <= 0:
        raise ctx.refuse("alpha", f"{alpha:g}", "a positive number works")
    _exponential(ctx, view.tensor, 1.0, alpha, alpha, ctx.output(view.layout))


def _exponential(ctx: Lowering, x: Tensor, above: float, below: float, width: float, into: Tensor) -> None:
    """above * max(x, 0) + below * (exp(min(x, 0) / width) - 1)."""
    steps = Steps(ctx)
    negative = steps.minimum(x, 0.0)
    negative = steps.unary("ELU", negative if width == 1.0 else steps.mul(negative, 1 / width))
    positive = steps.unary("RELU", x)
    positive = positive if above == 1.0 else steps.mul(positive, above)
    steps.add(positive, negative if below == 1.0 else steps.mul(negative, below), into)


def hard_sigmoid(ctx: Lowering) -> None:
    """Clip(alpha x + beta, 0, 1)."""
    view, steps = ctx.input(), Steps(ctx)
    scaled = steps.mul(view.tensor, float(ctx.attr("alpha", 0.2)))
    steps.unary("RELU_0_TO_1", steps.add(scaled, float(ctx.attr("beta", 0.5))), ctx.output(view.layout))


def thresholded_relu(ctx: Lowering) -> None:
    """x above alpha, else 0."""
    view, steps = ctx.input(), Steps(ctx)
    above = steps.binary("GREATER", view.tensor, float(ctx.attr("alpha", 1.0)))
    steps.select(above, view.tensor, 0.0, ctx.output(view.layout))


def shrink(ctx: Lowering) -> None:
    """x + bias below -lambd, x - bias above lambd, else 0."""
    view, steps = ctx.input(), Steps(ctx)
    x, bias, limit = view.tensor, float(ctx.attr("bias", 0.0)), float(ctx.attr("lambd", 0.5))
    if bias == limit >= 0:
        steps.sub(x, steps.minimum(steps.maximum(x, -limit), limit), ctx.output(view.layout))
        return
    inner = steps.select(steps.binary("GREATER", x, limit), steps.sub(x, bias), 0.0)
    steps.select(steps.binary("LESS", x, -limit), steps.add(x, bias), inner, ctx.output(view.layout))


_NO_INT = Float("no integer kernel in ONNX Runtime")
_ACTIVATION: tuple[InputRole, ...] = ("activation",)
_BOUNDS: tuple[InputRole, ...] = ("activation", "static", "static")


def _row(op: str, lower: Lower, rule: Free | Float = _NO_INT, inputs: tuple[InputRole, ...] = _ACTIVATION) -> Op:
    return Op(op, rule, inputs, lower=widened(lower, REAL), types=("float32", *REAL))


ROWS = (
    Op("Relu", Free(), lower=widened(relu, BOUNDS), types=BOUNDS_TAKE, int16=Free()),
    Op("Clip", Free(), _BOUNDS, lower=widened(clip, BOUNDS), types=BOUNDS_TAKE, int8_when=_clip_int8, int16=Free()),
    Op("PRelu", _NO_INT, lower=widened(prelu, RING), types=("float32", "int32", "int64", *RING)),
    replace(
        _row("LeakyRelu", builtin("LEAKY_RELU", alpha=lambda ctx: float(ctx.attr("alpha", 0.01))), Free()), int16=Free()
    ),
    Op("Elu", Free(), lower=widened(elu, REAL), types=("float32", *REAL), int8_when=_elu_int8),
    _row("Selu", selu),
    _row("Celu", celu),
    _row("HardSigmoid", hard_sigmoid),
    _row("HardSwish", builtin("HARD_SWISH")),
    _row("ThresholdedRelu", thresholded_relu),
    _row("Shrink", shrink),
)
