"""Normalisations, written out: TFLite has none of them."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import NEW, Layout, Lowering, Tensor
from exporter.ops.op import Float, Op

__all__ = ["ROWS"]

_NONE = {"fusedActivationFunction": "NONE"}


def _mean(ctx: Lowering, source: Tensor, places: list[int], tag: str) -> Tensor:
    shape = [1 if i in places else s for i, s in enumerate(source.shape)]
    dynamic = frozenset(i for i in source.dynamic if i not in places)
    result = ctx.program.temp(source, shape, dynamic, f"{ctx.result.name}/{tag}")
    ctx.emit("MEAN", [source, ctx.ints(places)], [result], "ReducerOptions", keepDims=True)
    return result


def _like(ctx: Lowering, tensor: Tensor, tag: str) -> Tensor:
    return ctx.program.temp(tensor, tensor.shape, tensor.dynamic, f"{ctx.result.name}/{tag}")


def _operand(ctx: Lowering, index: int, layout: Layout, lead: int) -> Tensor | None:
    """A constant scale or bias whose axes are the value's from ``lead`` on, under the layout."""
    array = ctx.const(index)
    if array is None:
        if ctx.has(index):
            raise ctx.refuse("scale" if index == 1 else "bias", "computed at run time", "make it a constant")
        return None
    inner = [a for a in layout if a != NEW and a >= lead]
    turned = array.transpose([a - lead for a in inner])
    shape = [turned.shape[inner.index(a)] if a in inner else 1 for a in layout]
    return ctx.program.constant(turned.reshape(shape).astype(np.float32), stem=f"{ctx.result.name}/constant")


def layer_norm(ctx: Lowering) -> None:
    """(x - mean) * rsqrt(mean((x - mean)^2) + epsilon) * scale + bias, over the trailing axes."""
    rank = len(ctx.shape(0))
    axis = ctx.attr("axis", -1) % rank
    if len(ctx.node.outputs) > 1 and any(o.uses() for o in ctx.node.outputs[1:]):
        raise ctx.refuse("Mean", "asked for", "only the normalised output is given")
    view = ctx.input()
    places = sorted(view.layout.index(a) for a in range(axis, rank))
    mean = _mean(ctx, view.tensor, places, "mean")
    centred = _like(ctx, view.tensor, "centred")
    ctx.emit("SUB", [view.tensor, mean], [centred], "SubOptions", **_NONE)
    squares = _like(ctx, view.tensor, "squares")
    ctx.emit("MUL", [centred, centred], [squares], "MulOptions", **_NONE)
    _scale(ctx, centred, _mean(ctx, squares, places, "variance"), view.layout, axis)


def rms_norm(ctx: Lowering) -> None:
    """x * rsqrt(mean(x^2) + epsilon) * scale (Zhang and Sennrich 2019)."""
    rank = len(ctx.shape(0))
    axis = ctx.attr("axis", -1) % rank
    view = ctx.input()
    places = sorted(view.layout.index(a) for a in range(axis, rank))
    squares = _like(ctx, view.tensor, "squares")
    ctx.emit("MUL", [view.tensor, view.tensor], [squares], "MulOptions", **_NONE)
    _scale(ctx, view.tensor, _mean(ctx, squares, places, "power"), view.layout, axis)


def _scale(ctx: Lowering, source: Tensor, variance: Tensor, layout: Layout, axis: int) -> None:
    safe, root = _like(ctx, variance, "safe"), _like(ctx, variance, "root")
    epsilon = ctx.number(float(ctx.attr("epsilon", 1e-5)))
    ctx.emit("ADD", [variance, epsilon], [safe], "AddOptions", **_NONE)
    ctx.emit("RSQRT", [safe], [root])
    operands = [("MUL", root), ("MUL", _operand(ctx, 1, layout, axis)), ("ADD", _operand(ctx, 2, layout, axis))]
    chain = [(code, t) for code, t in operands if t is not None]
    result = ctx.output(layout)
    for number, (code, operand) in enumerate(chain, 1):
        target = result if number == len(chain) else _like(ctx, source, "scaled")
        ctx.emit(code, [source, operand], [target], f"{code.title()}Options", **_NONE)
        source = target


def batch_norm(ctx: Lowering) -> None:
    """x * a + b with constants of each channel."""
    numbers = [ctx.const(i) for i in range(1, 5)]
    if any(n is None for n in numbers) or ctx.attr("training_mode", 0):
        raise ctx.refuse("", "statistics computed at run time", "export the model in eval mode")
    gamma, beta, mean, variance = (np.asarray(n, np.float64) for n in numbers)
    scale = gamma / np.sqrt(variance + float(ctx.attr("epsilon", 1e-5)))
    view = ctx.input()
    shape = [-1 if a == 1 else 1 for a in view.layout]
    middle = _like(ctx, view.tensor, "scaled")
    factor = ctx.number(scale.reshape(shape))
    ctx.emit("MUL", [view.tensor, factor], [middle], "MulOptions", **_NONE)
    offset = ctx.number((beta - mean * scale).reshape(shape))
    ctx.emit("ADD", [middle, offset], [ctx.output(view.layout)], "AddOptions", **_NONE)


_NO_INT = Float("no integer kernel in ONNX Runtime")

ROWS = (
    Op("LayerNormalization", _NO_INT, ("activation", "static", "static"), lower=layer_norm, ignores=("stash_type",)),
    Op("RMSNormalization", _NO_INT, ("activation", "static"), lower=rms_norm, ignores=("stash_type",)),
    Op("BatchNormalization", Float("not folded into a convolution"), ("activation", "static"), lower=batch_norm),
)
