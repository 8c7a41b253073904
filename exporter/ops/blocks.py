"""Blocks of pixels as channels, and back."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.moves import Moves
from exporter.ops.op import Op, Same

__all__ = ["ROWS"]

_LAYOUT = (0, 2, 3, 1)
_Turn = tuple[list[int], list[int]]  # sizes of the finer axes, and their order afterwards


def depth_to_space(ctx: Lowering) -> None:
    """DEPTH_TO_SPACE; a TRANSPOSE of int16, and in CRD order, where it is faster than to gather the channels first.

    ``preparing.blocks`` leaves that order only where no convolution can sort its channels.
    """
    block = ctx.attr("blocksize")
    image = ctx.input(0, _LAYOUT).tensor
    batch, high, wide, deep = image.shape
    by_row = [batch * high, wide, block, deep // block], [0, 2, 1, 3]
    by_column = [batch * high, wide, deep // block**2, block, block], [0, 3, 1, 4, 2]
    _move(ctx, image, "DepthToSpace", by_row, by_column)


def space_to_depth(ctx: Lowering) -> None:
    """SPACE_TO_DEPTH; a TRANSPOSE of int16, and in CRD order."""
    block = ctx.attr("blocksize")
    image = ctx.input(0, _LAYOUT).tensor
    batch, high, wide, channels = image.shape
    by_row = [batch * high // block, block, wide // block, block * channels], [0, 2, 1, 3]
    by_column = [batch * high // block, block, wide // block, block, channels], [0, 2, 4, 1, 3]
    _move(ctx, image, "SpaceToDepth", by_row, by_column)


def _move(ctx: Lowering, image: Tensor, kind: str, by_row: _Turn, by_column: _Turn) -> None:
    """The builtin; a TRANSPOSE over finer axes of int16, which it does not take, and in CRD order."""
    mode = ctx.attr("mode", "DCR")
    if mode not in {"DCR", "CRD"}:
        raise ctx.refuse("mode", repr(mode), "DCR and CRD work")
    result = ctx.output(_LAYOUT)
    if mode == "DCR" and image.dtype != np.int16:
        code = {"DepthToSpace": "DEPTH_TO_SPACE", "SpaceToDepth": "SPACE_TO_DEPTH"}[kind]
        ctx.emit(code, [image], [result], f"{kind}Options", blockSize=ctx.attr("blocksize"))
        return
    moves = Moves(ctx)
    sizes, order = by_row if mode == "DCR" else by_column
    moves.reshape(moves.transpose(moves.reshape(image, sizes), order), (), into=result)


_TYPES = ("float32", "int8", "uint8", "int32", "int64")

ROWS = (
    Op("DepthToSpace", Same(), lower=depth_to_space, types=_TYPES, int16=Same()),
    Op("SpaceToDepth", Same(), lower=space_to_depth, types=_TYPES, int16=Same()),
)
