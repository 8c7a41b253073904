"""Deformable convolution: a gather for each corner of each tap, then a matrix product (Zhu et al. 2019)."""

from __future__ import annotations

import math

import numpy as np

from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.moves import Moves
from exporter.ops.op import Float, Op
from exporter.ops.sampling import bordered, clip, sample
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, REALS, widened
from exporter.ops.windows import Window, window

__all__ = ["ROWS"]

_LAYOUT = (0, 2, 3, 1)


def deform_conv(ctx: Lowering) -> None:
    """Each tap of each window read bilinearly at its own offset; outside of the image lie zeros."""
    shape, kernel = ctx.shape(0), ctx.shape(1)
    group, parts = ctx.attr("group", 1), ctx.attr("offset_group", 1)
    if len(shape) != 4:
        raise ctx.refuse("", f"input of rank {len(shape)}", "images work")
    if kernel[1] * group != shape[1] or shape[1] % parts:
        raise ctx.refuse("group", f"{group} with weights {kernel} over {shape[1]} channels", "the weights do not fit")
    win = window(ctx, kernel[2:], shape[2:])
    moves, steps = Moves(ctx), Steps(ctx)
    image = ctx.input(0, _LAYOUT).tensor
    batch, high, wide, channels = image.shape
    out = ctx.out_shape()[2:]
    taps, pixels = math.prod(win.kernel), math.prod(out)
    padded = bordered(ctx, image, [(1, 2), (1, 2)], "zeros")
    rows, columns = _places(ctx, win, out, parts, (high, wide))
    mask = ctx.input(4, _LAYOUT).tensor if ctx.has(4) else None
    read = []
    for part in range(parts):
        inside = channels // parts
        piece = moves.cut(padded, [0, 0, 0, part * inside], [*padded.shape[:3], inside])
        mine = [
            moves.reshape(moves.cut(p, [0, 0, part * taps], [batch, pixels, taps]), [batch, pixels * taps])
            for p in (rows, columns)
        ]
        found = moves.reshape(sample(ctx, piece, mine, [1, 1], "linear"), [batch, pixels, taps, inside])
        if mask is not None:
            weight = moves.cut(mask, [0, 0, 0, part * taps], [batch, *out, taps])
            found = steps.mul(found, moves.reshape(weight, [batch, pixels, taps, 1]))
        read.append(found)
    _product(ctx, moves.join(read, 3), group, taps)


def _places(
    ctx: Lowering, win: Window, out: tuple[int, ...], parts: int, sizes: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Row and column of every tap, [N, windows, offset groups x taps]; as far outside as makes a difference."""
    moves, steps = Moves(ctx), Steps(ctx)
    offset = ctx.input(2, _LAYOUT).tensor
    batch, taps = offset.shape[0], math.prod(win.kernel)
    pairs = moves.reshape(offset, [batch, math.prod(out), parts * taps, 2])
    found = []
    for axis, size in enumerate(sizes):
        lines = win.taps(axis, out[axis])
        shape = [1, 1, 1, 1]
        shape[axis], shape[2 + axis] = lines.shape
        grid = np.broadcast_to(lines.reshape(shape), (*out, *win.kernel)).reshape(-1, 1, taps)
        start = np.tile(grid, (1, parts, 1)).reshape(1, -1, parts * taps)
        away = moves.cut(pairs, [0, 0, 0, axis], [batch, math.prod(out), parts * taps, 1])
        place = steps.add(moves.reshape(away, [batch, math.prod(out), parts * taps]), start)
        found.append(clip(ctx, place, -1, size))
    return found[0], found[1]


def _product(ctx: Lowering, read: Tensor, group: int, taps: int) -> None:
    """[N, windows, taps, channels] by the weights of each group."""
    weight = ctx.const(1)
    if weight is None:
        raise ctx.refuse("W", "weights computed at run time", "make them constants")
    moves, steps = Moves(ctx), Steps(ctx)
    batch, pixels, _, channels = read.shape
    outs, inside = weight.shape[0] // group, channels // group
    flat = weight.reshape(weight.shape[0], inside, taps).transpose(0, 2, 1).reshape(weight.shape[0], -1)
    bias = ctx.const(3)
    numbers = np.zeros(len(flat)) if bias is None else bias
    made = []
    for part in range(group):
        piece = moves.cut(read, [0, 0, 0, part * inside], [batch, pixels, taps, inside])
        mine = slice(part * outs, (part + 1) * outs)
        product = moves.temp(read, [batch, pixels, outs], read.dynamic, "product")
        wide = moves.reshape(piece, [batch, pixels, taps * inside])
        ctx.emit("FULLY_CONNECTED", [wide, ctx.number(flat[mine]), ctx.number(numbers[mine])], [product],
                 "FullyConnectedOptions", fusedActivationFunction="NONE", keepNumDims=True)  # fmt: skip
        made.append(product)
    result = ctx.output(_LAYOUT)
    whole = moves.join(made, 2)
    if ctx.has(3) and bias is None:
        steps.add(moves.reshape(whole, result.shape), ctx.plain(3), result)
    else:
        moves.reshape(whole, (), into=result)


ROWS = (
    Op(
        "DeformConv",
        Float("no integer kernel in either runtime"),
        ("activation", "weight", "activation", "bias", "activation"),
        lower=widened(deform_conv, REAL),
        types=REALS,
    ),
)
