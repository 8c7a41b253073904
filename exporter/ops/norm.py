"""Normalisations over given axes, written out: TFLite has none of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporter.ops.elementwise import aligned
from exporter.ops.lowering import NEW, Layout, Lowering, Tensor, View
from exporter.ops.op import Float, Op
from exporter.ops.steps import Operand, Steps
from exporter.ops.widened import REAL, REALS, widened

__all__ = ["NO_INTEGER", "ROWS", "by_channel", "chain", "deviation"]

NO_INTEGER = Float("no integer kernel in ONNX Runtime")


def layer_norm(ctx: Lowering) -> None:
    """(x - mean) * rsqrt(mean((x - mean)^2) + epsilon) * scale + bias, over the trailing axes."""
    view, places = _trailing(ctx)
    centred, mean, root = deviation(ctx, view.tensor, places, float(ctx.attr("epsilon", 1e-5)))
    wanted = [len(ctx.node.outputs) > i and bool(ctx.node.outputs[i].name) for i in (1, 2)]
    for index, (tensor, asked) in enumerate(zip((mean, root), wanted, strict=True), 1):
        if asked:
            ctx.alias(View(tensor, view.layout), index)
    scale, bias = _operand(ctx, 1, view), _operand(ctx, 2, view)
    chain(ctx, view.layout, [("MUL", centred), ("MUL", root), ("MUL", scale), ("ADD", bias)])


def rms_norm(ctx: Lowering) -> None:
    """x * rsqrt(mean(x^2) + epsilon) * scale (Zhang and Sennrich 2019)."""
    view, places = _trailing(ctx)
    steps = Steps(ctx)
    power = steps.reduce("MEAN", steps.mul(view.tensor, view.tensor), places)
    root = steps.unary("RSQRT", steps.add(power, float(ctx.attr("epsilon", 1e-5))))
    chain(ctx, view.layout, [("MUL", view.tensor), ("MUL", root), ("MUL", _operand(ctx, 1, view))])


def _trailing(ctx: Lowering) -> tuple[View, list[int]]:
    """The input, and where its axes from ``axis`` on lie."""
    rank = len(ctx.shape(0))
    view = ctx.input()
    return view, sorted(view.layout.index(a) for a in range(ctx.attr("axis", -1) % rank, rank))


def _operand(ctx: Lowering, index: int, view: View) -> Tensor | None:
    """A scale or bias under the trailing axes of the input."""
    return aligned(ctx, index, view.layout, len(ctx.shape(0))) if ctx.has(index) else None


def deviation(ctx: Lowering, tensor: Tensor, places: list[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """x - mean, the mean, and 1 / sqrt(variance + epsilon) over physical axes."""
    steps = Steps(ctx)
    mean = steps.reduce("MEAN", tensor, places)
    centred = steps.sub(tensor, mean)
    variance = steps.reduce("MEAN", steps.mul(centred, centred), places)
    return centred, mean, steps.unary("RSQRT", steps.add(variance, epsilon))


def chain(ctx: Lowering, layout: Layout, links: Sequence[tuple[str, Operand | None]]) -> None:
    """The first operand, then each further one applied to it by its builtin; absent ones are left out."""
    (_, start), *rest = links
    given = [(code, operand) for code, operand in rest if operand is not None]
    assert isinstance(start, Tensor)
    result, steps = ctx.output(layout), Steps(ctx)
    for number, (code, operand) in enumerate(given, 1):
        start = steps.binary(code, start, operand, result if number == len(given) else None)


def batch_norm(ctx: Lowering) -> None:
    """x * a + b for each channel; with training_mode the statistics are those of the batch."""
    view = ctx.input()
    epsilon = float(ctx.attr("epsilon", 1e-5))
    momentum = float(ctx.attr("momentum", 0.9))
    if ctx.attr("training_mode", 0):
        _trained(ctx, view, epsilon, momentum)
        return
    numbers = [ctx.const(i) for i in range(1, 5)]
    if all(n is not None for n in numbers):
        gamma, beta, mean, variance = (np.asarray(n, np.float64) for n in numbers)
        scale = gamma / np.sqrt(variance + epsilon)
        shape = [-1 if a == 1 else 1 for a in view.layout]
        factor, offset = scale.reshape(shape), (beta - mean * scale).reshape(shape)
        chain(ctx, view.layout, [("MUL", view.tensor), ("MUL", factor), ("ADD", offset)])
        return
    steps = Steps(ctx)
    gamma_, beta_, mean_, variance_ = (by_channel(ctx, i, view.layout) for i in range(1, 5))
    factor_ = steps.mul(gamma_, steps.unary("RSQRT", steps.add(variance_, epsilon)))
    chain(ctx, view.layout, [("MUL", view.tensor), ("SUB", mean_), ("MUL", factor_), ("ADD", beta_)])


def _trained(ctx: Lowering, view: View, epsilon: float, momentum: float) -> None:
    steps = Steps(ctx)
    places = [i for i, a in enumerate(view.layout) if a != 1]
    centred, mean, root = deviation(ctx, view.tensor, places, epsilon)
    gamma, beta = by_channel(ctx, 1, view.layout), by_channel(ctx, 2, view.layout)
    chain(ctx, view.layout, [("MUL", centred), ("MUL", root), ("MUL", gamma), ("ADD", beta)])
    variance = steps.reduce("MEAN", steps.mul(centred, centred), places)
    for index, current in ((1, mean), (2, variance)):
        if index < len(ctx.node.outputs) and ctx.node.outputs[index].name:
            kept = steps.mul(ctx.plain(index + 2), momentum)
            new = steps.mul(ctx.program.reshape(current, kept.shape, frozenset()), 1 - momentum)
            steps.add(kept, new, ctx.output(index=index))


def by_channel(ctx: Lowering, index: int, layout: Layout) -> Tensor:
    """An input [C] laid under a feature map's channels."""
    return ctx.program.convert(ctx.input(index), tuple(0 if a == 1 else NEW for a in layout)).tensor


ROWS = (
    Op(
        "LayerNormalization",
        NO_INTEGER,
        ("activation", "static"),
        lower=widened(layer_norm, REAL),
        types=REALS,
        ignores=("stash_type",),
    ),
    Op(
        "RMSNormalization",
        NO_INTEGER,
        ("activation", "static"),
        lower=widened(rms_norm, REAL),
        types=REALS,
        ignores=("stash_type",),
    ),
    Op(
        "BatchNormalization",
        Float("not folded into a convolution"),
        ("activation", "static"),
        lower=widened(batch_norm, REAL),
        types=REALS,
    ),
)
