"""Blocks of pixels as channels, and back."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import Array, Lowering
from exporter.ops.moves import Moves
from exporter.ops.op import Op, Same

__all__ = ["ROWS"]

_LAYOUT = (0, 2, 3, 1)


def depth_to_space(ctx: Lowering) -> None:
    """DEPTH_TO_SPACE; CRD order by gathering the channels first."""
    block = ctx.attr("blocksize")
    image = ctx.input(0, _LAYOUT).tensor
    if _by_column(ctx):
        image = Moves(ctx).gather(image, _by_block(image.shape[3], block), 3)
    ctx.emit("DEPTH_TO_SPACE", [image], [ctx.output(_LAYOUT)], "DepthToSpaceOptions", blockSize=block)


def space_to_depth(ctx: Lowering) -> None:
    """SPACE_TO_DEPTH; CRD order by gathering the channels after it."""
    block = ctx.attr("blocksize")
    image = ctx.input(0, _LAYOUT).tensor
    batch, height, width, channels = image.shape
    by_column = _by_column(ctx)
    moves = Moves(ctx)
    deep = (batch, height // block, width // block, channels * block * block)
    result = moves.temp(image, deep, image.dynamic, "blocks") if by_column else ctx.output(_LAYOUT)
    ctx.emit("SPACE_TO_DEPTH", [image], [result], "SpaceToDepthOptions", blockSize=block)
    if by_column:
        moves.gather(result, np.argsort(_by_block(deep[3], block)), 3, into=ctx.output(_LAYOUT))


def _by_column(ctx: Lowering) -> bool:
    mode = ctx.attr("mode", "DCR")
    if mode not in {"DCR", "CRD"}:
        raise ctx.refuse("mode", repr(mode), "DCR and CRD work")
    return bool(mode == "CRD")


def _by_block(channels: int, block: int) -> Array:
    """Place (b, c) of the depth-column-row order holds channel (c, b) of the column-row-depth order."""
    return np.arange(channels).reshape(-1, block * block).T.reshape(-1)


_TYPES = ("float32", "int8", "uint8", "int32", "int64")

ROWS = (
    Op("DepthToSpace", Same(), lower=depth_to_space, types=_TYPES),
    Op("SpaceToDepth", Same(), lower=space_to_depth, types=_TYPES),
)
