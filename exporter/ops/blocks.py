"""Blocks of pixels as channels, and back."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import Lowering
from exporter.ops.moves import Moves
from exporter.ops.op import Op, Same

__all__ = ["ROWS"]

_LAYOUT = (0, 2, 3, 1)


def depth_to_space(ctx: Lowering) -> None:
    """DEPTH_TO_SPACE; a TRANSPOSE of int16, and in CRD order, where it is faster than to gather the channels first.

    ``preparing.blocks`` leaves that order only where no convolution can sort its channels.
    """
    block = ctx.attr("blocksize")
    image = ctx.input(0, _LAYOUT).tensor
    result = ctx.output(_LAYOUT)
    batch, high, wide, deep = image.shape
    moves = Moves(ctx)
    if not _by_column(ctx):
        if image.dtype != np.int16:
            ctx.emit("DEPTH_TO_SPACE", [image], [result], "DepthToSpaceOptions", blockSize=block)
            return
        rows = moves.reshape(image, [batch * high, wide, block, deep // block])
        moves.reshape(moves.transpose(rows, [0, 2, 1, 3]), (), into=result)
        return
    apart = moves.reshape(image, [batch * high, wide, deep // block**2, block, block])
    moves.reshape(moves.transpose(apart, [0, 3, 1, 4, 2]), (), into=result)


def space_to_depth(ctx: Lowering) -> None:
    """SPACE_TO_DEPTH; a TRANSPOSE of int16, and in CRD order."""
    block = ctx.attr("blocksize")
    image = ctx.input(0, _LAYOUT).tensor
    result = ctx.output(_LAYOUT)
    batch, high, wide, channels = image.shape
    moves = Moves(ctx)
    if not _by_column(ctx):
        if image.dtype != np.int16:
            ctx.emit("SPACE_TO_DEPTH", [image], [result], "SpaceToDepthOptions", blockSize=block)
            return
        rows = moves.reshape(image, [batch * high // block, block, wide // block, block * channels])
        moves.reshape(moves.transpose(rows, [0, 2, 1, 3]), (), into=result)
        return
    apart = moves.reshape(image, [batch * high // block, block, wide // block, block, channels])
    moves.reshape(moves.transpose(apart, [0, 2, 4, 1, 3]), (), into=result)


def _by_column(ctx: Lowering) -> bool:
    mode = ctx.attr("mode", "DCR")
    if mode not in {"DCR", "CRD"}:
        raise ctx.refuse("mode", repr(mode), "DCR and CRD work")
    return bool(mode == "CRD")


_TYPES = ("float32", "int8", "uint8", "int32", "int64")

ROWS = (
    Op("DepthToSpace", Same(), lower=depth_to_space, types=_TYPES, int16=Same()),
    Op("SpaceToDepth", Same(), lower=space_to_depth, types=_TYPES, int16=Same()),
)
