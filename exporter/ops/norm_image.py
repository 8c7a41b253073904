"""Normalisations of feature maps and of vectors."""

from __future__ import annotations

import math

import numpy as np

from exporter.ops.infer import like_first
from exporter.ops.lowering import Layout, Lowering, Tensor, identity
from exporter.ops.norm import NO_INTEGER, by_channel, chain, deviation
from exporter.ops.op import Op
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, REALS, widened

__all__ = ["ROWS"]

_TINY = float(np.finfo(np.float32).tiny)


def instance_norm(ctx: Lowering) -> None:
    """Each channel of each image on its own."""
    view = ctx.input()
    places = [i for i, a in enumerate(view.layout) if a > 1]
    centred, _, root = deviation(ctx, view.tensor, places, float(ctx.attr("epsilon", 1e-5)))
    scale, bias = by_channel(ctx, 1, view.layout), by_channel(ctx, 2, view.layout)
    chain(ctx, view.layout, [("MUL", centred), ("MUL", root), ("MUL", scale), ("ADD", bias)])


def group_norm(ctx: Lowering) -> None:
    """Each group of channels of each image on its own (Wu and He 2018); scale and bias by channel, or by group."""
    shape = ctx.shape(0)
    groups = ctx.attr("num_groups")
    if groups < 1 or shape[1] % groups:
        raise ctx.refuse("num_groups", f"{groups} for {shape[1]} channels", "it must divide them")
    view = ctx.input()
    layout = view.layout
    inside, pixels = shape[1] // groups, math.prod(shape[2:])
    if layout[0] == 0 and layout[-1] == 1:
        split, places = [shape[0], pixels, groups, inside], [1, 3]
    else:
        layout = identity(len(shape))
        view = ctx.program.convert(view, layout)
        split, places = [shape[0], groups, inside * pixels], [2]
    source = view.tensor
    apart = ctx.program.reshape(source, split, source.dynamic)
    centred, _, root = deviation(ctx, apart, places, float(ctx.attr("epsilon", 1e-5)))
    normal = ctx.program.reshape(Steps(ctx).mul(centred, root), source.shape, source.dynamic)
    scale, bias = (_by_group(ctx, i, layout, groups) for i in (1, 2))
    chain(ctx, layout, [("MUL", normal), ("MUL", scale), ("ADD", bias)])


def _by_group(ctx: Lowering, index: int, layout: Layout, groups: int) -> Tensor:
    """[C], or [groups] as before opset 21, laid under the channels."""
    channels = ctx.shape(0)[1]
    if ctx.shape(index) == (channels,):
        return by_channel(ctx, index, layout)
    array = ctx.const(index)
    if ctx.shape(index) != (groups,) or array is None:
        raise ctx.refuse("scale", f"shape {ctx.shape(index)}", f"give one number for each of the {channels} channels")
    wide = np.repeat(array, channels // groups)
    return ctx.number(wide.reshape([-1 if a == 1 else 1 for a in layout]))


def lp_norm(ctx: Lowering) -> None:
    """x / (sum of |x|^p)^(1/p) along an axis; zeros stay zeros."""
    power = ctx.attr("p", 2)
    if power not in {1, 2}:
        raise ctx.refuse("p", str(power), "1 and 2 work")
    view, steps = ctx.input(), Steps(ctx)
    place = view.layout.index(ctx.attr("axis", -1) % len(ctx.shape(0)))
    raised = steps.unary("ABS", view.tensor) if power == 1 else steps.mul(view.tensor, view.tensor)
    norm = steps.reduce("SUM", raised, [place])
    if power == 2:
        norm = steps.unary("SQRT", norm)
    steps.div(view.tensor, steps.maximum(norm, _TINY), ctx.output(view.layout))


def mean_variance_norm(ctx: Lowering) -> None:
    """(x - mean) / (standard deviation + 1e-9), as the ONNX function has it."""
    view, steps = ctx.input(), Steps(ctx)
    rank = len(ctx.shape(0))
    places = sorted(view.layout.index(a % rank) for a in ctx.attr("axes", (0, 2, 3)))
    centred = steps.sub(view.tensor, steps.reduce("MEAN", view.tensor, places))
    variance = steps.reduce("MEAN", steps.mul(centred, centred), places)
    steps.div(centred, steps.add(steps.unary("SQRT", variance), 1e-9), ctx.output(view.layout))


def lrn(ctx: Lowering) -> None:
    """x * (bias + alpha / size * sum of squares of near channels) ^ -beta (Krizhevsky 2012).

    The sum is a FULLY_CONNECTED with a band of ones: LOCAL_RESPONSE_NORMALIZATION knows odd sizes only.
    """
    shape, size = ctx.shape(0), ctx.attr("size")
    rank, channels = len(shape), shape[1]
    if rank < 2:
        raise ctx.refuse("", f"input of rank {rank}", "channels are its second axis")
    layout: Layout = (0, *range(2, rank), 1)
    view = ctx.input(0, layout)
    steps = Steps(ctx)
    squares = steps.mul(view.tensor, view.tensor)
    away = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    near = (away >= -((size - 1) // 2)) & (away <= size // 2)
    band = ctx.number(near * (float(ctx.attr("alpha", 1e-4)) / size))
    bias = ctx.number(np.full(channels, float(ctx.attr("bias", 1.0))))
    total = ctx.temp(squares, tag="near")
    ctx.emit("FULLY_CONNECTED", [squares, band, bias], [total], "FullyConnectedOptions",
             fusedActivationFunction="NONE", keepNumDims=True)  # fmt: skip
    steps.mul(view.tensor, steps.binary("POW", total, -float(ctx.attr("beta", 0.75))), ctx.output(layout))


ROWS = (
    Op(
        "InstanceNormalization",
        NO_INTEGER,
        ("activation", "static"),
        lower=widened(instance_norm, REAL),
        types=REALS,
    ),
    Op(
        "GroupNormalization",
        NO_INTEGER,
        ("activation", "static"),
        lower=widened(group_norm, REAL),
        types=REALS,
        infer=like_first,
        ignores=("stash_type",),
    ),
    Op("LpNormalization", NO_INTEGER, lower=widened(lp_norm, REAL), types=REALS),
    Op(
        "MeanVarianceNormalization",
        NO_INTEGER,
        lower=widened(mean_variance_norm, REAL),
        types=REALS,
        infer=like_first,
    ),
    Op("LRN", NO_INTEGER, lower=widened(lrn, REAL), types=REALS),
)
