"""Borders: more of a tensor, or less."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.carrier import carried, delivering
from exporter.ops.lowering import Array, Lowering, Tensor
from exporter.ops.moves import Moves
from exporter.ops.op import STORED, InputRole, Op, Same

__all__ = ["ROWS"]

_GATHERED = {"reflect", "edge", "wrap"}


def pad(ctx: Lowering) -> None:
    """PAD with zero, PADV2 with a number; else a GATHER for each axis, much faster than MIRROR_PAD."""
    mode = ctx.attr("mode", "constant")
    rank = len(ctx.shape(0))
    pads = ctx.static(1, "pads")
    axes = [int(a) % rank for a in ctx.static(3, "axes", list(range(rank)))]
    view = ctx.input()
    widths = [(0, 0)] * len(view.layout)
    for i, axis in enumerate(axes):
        widths[view.layout.index(axis)] = (int(pads[i]), int(pads[i + len(axes)]))
    if any(any(widths[i]) for i in view.tensor.dynamic):
        raise ctx.refuse("pads", "pads the batch", "export with a fixed batch")
    if not any(map(any, widths)):
        ctx.alias(view)
        return
    if mode != "constant" and mode not in _GATHERED:
        raise ctx.refuse("mode", repr(mode), "constant, reflect, edge and wrap work")
    filler = _filler(ctx, view.tensor) if mode == "constant" else None
    tensor = carried(ctx, view.tensor)
    with delivering(ctx, ctx.output(view.layout)) as result:
        if mode == "constant":
            Moves(ctx).pad(tensor, widths, filler, into=result)
        else:
            _gathered(ctx, tensor, widths, mode, result)


def _filler(ctx: Lowering, tensor: Tensor) -> Tensor | None:
    """The number to pad with, in the tensor's own type; None for zero."""
    if not ctx.has(2):
        return None
    number = ctx.const(2)
    if number is None:
        return carried(ctx, ctx.plain(2))
    if number.size != 1:
        raise ctx.refuse("constant_value", f"{number.size} numbers", "one is wanted")
    if number.item() == 0:
        return None
    if tensor.quant is None:
        return carried(ctx, ctx.program.constant(number.reshape(())))
    stored = np.rint(float(number.item()) / float(tensor.quant.scale)) + int(tensor.quant.zero_point)
    limits = np.iinfo(tensor.dtype)
    return ctx.program.constant(np.asarray(np.clip(stored, limits.min, limits.max), tensor.dtype), tensor.quant)


def _gathered(ctx: Lowering, tensor: Tensor, widths: Sequence[tuple[int, int]], mode: str, result: Tensor) -> None:
    moves = Moves(ctx)
    padded = [axis for axis, pair in enumerate(widths) if any(pair)]
    for axis in padded:
        places = _places(tensor.shape[axis], widths[axis], mode)
        into = result if axis == padded[-1] else None
        tensor = moves.gather(tensor, places, axis, into=into)


def _places(size: int, width: tuple[int, int], mode: str) -> Array:
    """Which places of an axis its padded form shows; a negative width takes places away first, as ONNX Runtime does."""
    kept = np.arange(size)[max(-width[0], 0) : size - max(-width[1], 0)]
    return np.pad(kept, [max(w, 0) for w in width], mode=mode)  # type: ignore[call-overload, no-any-return]


def _pad_int8(node: ir.Node) -> bool:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return value is None or graph.constant(value) is not None


def center_crop_pad(ctx: Lowering) -> None:
    """The middle of each axis, or zeros around it (onnx/reference/ops/op_center_crop_pad.py)."""
    sizes = ctx.shape(0)
    axes = [int(a) % len(sizes) for a in ctx.attr("axes", range(len(sizes)))]
    view = ctx.input()
    widths = [(0, 0)] * len(view.layout)
    for axis, wanted in zip(axes, ctx.static(1, "shape"), strict=True):
        place = view.layout.index(axis)
        if place in view.tensor.dynamic:
            raise ctx.refuse("axes", "crops the batch", "export with a fixed batch")
        more = int(wanted) - sizes[axis]
        first = more // 2 if more > 0 else -(-more // 2)
        widths[place] = (first, more - first)
    if not any(map(any, widths)):
        ctx.alias(view)
        return
    tensor = carried(ctx, view.tensor)
    with delivering(ctx, ctx.output(view.layout)) as result:
        Moves(ctx).pad(tensor, widths, into=result)


_TAIL: tuple[InputRole, ...] = ("activation", "static")
ROWS = (
    Op("Pad", Same(), _TAIL, lower=pad, types=STORED, int8_when=_pad_int8, int16=Same()),
    Op("CenterCropPad", Same(), _TAIL, lower=center_crop_pad, types=STORED, int16=Same()),
)
