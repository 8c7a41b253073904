"""Copying elements to other places: joined, repeated, spread, turned round."""

from __future__ import annotations

import numpy as np

from exporter.ops.carrier import BYTES, carried, delivering
from exporter.ops.lowering import NEW, Lowering, View, identity
from exporter.ops.op import STORED, InputRole, Op, Same

__all__ = ["ROWS"]

_JOINED = (*BYTES, "uint32", "bfloat16")  # what CONCATENATION takes
_TURNED = ("float32", "int64", "int32", "int16", "uint8")  # what REVERSE_SEQUENCE takes


def concat(ctx: Lowering) -> None:
    """CONCATENATION in the layout of the first computed input that is not in ONNX order."""
    rank = len(ctx.out_shape())
    axis = ctx.attr("axis") % rank
    indices = [i for i in range(len(ctx.node.inputs)) if ctx.shape(i)[axis] != 0 or ctx.input(i).tensor.dynamic]
    views = [ctx.input(i) for i in indices or [0]]
    layouts = [v.layout for v in views if v.tensor.data is None] or [identity(rank)]
    turned = [lay for lay in layouts if lay != identity(rank)]
    layout = turned[0] if turned else layouts[0]
    tensors = [ctx.program.convert(v, layout).tensor for v in views]
    if len(tensors) == 1:
        ctx.alias(View(tensors[0], layout))
        return
    place = layout.index(axis)
    if len({t.dynamic - {place} for t in tensors}) > 1:
        raise ctx.refuse("", "joins a tensor that follows the batch with one that does not", "use a fixed batch")
    result = ctx.output(layout)
    with delivering(ctx, result, _JOINED) as target:
        ctx.emit("CONCATENATION", [carried(ctx, t, _JOINED) for t in tensors], [target], "ConcatenationOptions",
                 axis=place, fusedActivationFunction="NONE")  # fmt: skip


def expand(ctx: Lowering) -> None:
    """BROADCAST_TO; nothing where only the batch grows, since every operator broadcasts."""
    source, target = ctx.shape(0), ctx.out_shape()
    if int(np.prod(source)) == int(np.prod(target)):
        view = ctx.program.convert(ctx.input(), identity(len(source)))
        moves = ctx.values.dynamic(ctx.result)
        if view.tensor.dynamic != moves and len(source) == len(target):
            ctx.alias(view)
            return
        ctx.alias(View(ctx.program.reshape(view.tensor, target, moves), identity(len(target))))
        return
    if ctx.values.dynamic(ctx.result):
        raise ctx.refuse("shape", "follows the batch", "export with a fixed batch")
    ctx.emit("BROADCAST_TO", [ctx.plain(0), ctx.ints(target)], [ctx.output()], "BroadcastToOptions")


def tile(ctx: Lowering) -> None:
    """TILE along the axes as they lie."""
    repeats = [int(r) for r in ctx.static(1, "repeats")]
    view = ctx.input()
    if not repeats:
        ctx.alias(view)
        return
    counts = [1 if a == NEW else repeats[a] for a in view.layout]
    ctx.emit("TILE", [view.tensor, ctx.ints(counts)], [ctx.output(view.layout)], "TileOptions")


def reverse_sequence(ctx: Lowering) -> None:
    """REVERSE_SEQUENCE."""
    batch, time = ctx.attr("batch_axis", 1), ctx.attr("time_axis", 0)
    view = ctx.input()
    lengths = ctx.plain(1)
    fields = {"seqDim": view.layout.index(time), "batchDim": view.layout.index(batch)}
    result = ctx.output(view.layout)
    with delivering(ctx, result, _TURNED) as target:
        operands = [carried(ctx, view.tensor, _TURNED), lengths]
        ctx.emit("REVERSE_SEQUENCE", operands, [target], "ReverseSequenceOptions", **fields)


_TAIL: tuple[InputRole, ...] = ("activation", "static")

ROWS = (
    Op("Concat", Same(), lower=concat, types=STORED),
    Op("Expand", Same(), _TAIL, lower=expand, types=STORED),
    Op("Tile", Same(), _TAIL, lower=tile, types=STORED),
    Op("ReverseSequence", Same(), _TAIL, lower=reverse_sequence, types=STORED),
)
