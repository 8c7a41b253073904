"""Overlapping blocks added up to an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from exporter.ops.lowering import Array, Lowering
from exporter.ops.moves import Moves
from exporter.ops.op import Float, Op
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, REALS, widened

__all__ = ["ROWS"]


def col2im(ctx: Lowering) -> None:
    """Which elements of which blocks fall on each pixel is constant: a GATHER of them, and their sum."""
    sizes, block = (tuple(int(n) for n in ctx.static(i, name)) for i, name in ((1, "image_shape"), (2, "block_shape")))
    count = len(sizes)
    strides, dilations = ctx.attr("strides", (1,) * count), ctx.attr("dilations", (1,) * count)
    pads = ctx.attr("pads", (0,) * (2 * count))
    batch, wide, blocks = ctx.shape(0)
    taps = math.prod(block)
    channels = wide // taps
    counts = [
        (sizes[i] + pads[i] + pads[count + i] - (block[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i in range(count)
    ]
    if math.prod(counts) != blocks:
        raise ctx.refuse("image_shape", f"{sizes}, into which {blocks} blocks do not fit", "make them agree")
    lines = [
        np.arange(block[i])[:, None] * dilations[i] + np.arange(counts[i]) * strides[i] - pads[i] for i in range(count)
    ]
    index, held = _contributions(lines, sizes)
    moves, steps = Moves(ctx), Steps(ctx)
    flat = moves.reshape(ctx.plain(0), [batch, channels, taps * blocks])
    taken = moves.gather(flat, index, 2)
    if not held.all():
        taken = steps.mul(taken, held)
    total = steps.reduce("SUM", taken, [3], keep=False)
    moves.reshape(total, (), into=ctx.output())


def _contributions(lines: Sequence[Array], sizes: Sequence[int]) -> tuple[Array, Array]:
    """For each pixel, which elements [taps x blocks] add up to it, and 1 where there is one: [pixels, most].

    lines  by axis, the pixel of each tap of each block, [taps, blocks]
    """
    count = len(lines)
    pixel: Array = np.zeros((1,) * (2 * count), np.int64)
    inside: Array = np.ones((1,) * (2 * count), bool)
    for i, (line, size) in enumerate(zip(lines, sizes, strict=True)):
        shape = [1] * (2 * count)
        shape[i], shape[count + i] = line.shape
        pixel = pixel + line.reshape(shape) * math.prod(sizes[i + 1 :])
        inside = inside & ((line >= 0) & (line < size)).reshape(shape)
    elements = np.flatnonzero(inside)
    order = elements[np.argsort(pixel.reshape(-1)[elements], kind="stable")]
    owner = pixel.reshape(-1)[order]
    totals = np.bincount(owner, minlength=math.prod(sizes))
    most = max(1, int(totals.max()))
    rank = np.arange(len(owner)) - (np.cumsum(totals) - totals)[owner]
    index, held = np.zeros((len(totals), most), np.int64), np.zeros((len(totals), most), np.float32)
    index[owner, rank], held[owner, rank] = order, 1
    return index, held


ROWS = (
    Op(
        "Col2Im",
        Float("no integer kernel in either runtime"),
        ("activation", "static"),
        lower=widened(col2im, REAL),
        types=REALS,
    ),
)
