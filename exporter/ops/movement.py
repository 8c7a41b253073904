"""Copying elements to other places: joined, repeated, spread, turned round."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter.ops.carrier import BYTES, carried, delivering
from exporter.ops.lowering import NEW, Lowering, View, identity
from exporter.ops.op import STORED, InputRole, Op, Same

__all__ = ["ROWS"]

_JOINED = (*BYTES, "uint32", "bfloat16")  # what CONCATENATION takes
_BROADCASTING = {"Add", "Sub", "Mul", "Div", "Min", "Max", "And", "Or", "Equal", "Less", "Greater", "Where"}
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
    """BROADCAST_TO; nothing where all that read it broadcast anyway."""
    view, target, moves = ctx.input(), ctx.out_shape(), ctx.values.dynamic(ctx.result)
    lead = len(target) - len(ctx.shape(0))
    now = {a + lead: view.tensor.shape[i] for i, a in enumerate(view.layout) if a != NEW}
    moving = {view.layout[i] + lead for i in view.tensor.dynamic}
    grown = {a for a in range(len(target)) if now.get(a, 1) != target[a] or (a in moves and a not in moving)}
    if not lead and (not grown or (grown <= moves and _broadcast_later(ctx))):
        ctx.alias(view)
    elif not grown:
        ctx.alias(View(ctx.program.reshape(ctx.plain(0), target, moves), identity(len(target))))
    elif lead or moves:
        ctx.emit("BROADCAST_TO", [ctx.plain(0), ctx.values.sizes(ctx.result)], [ctx.output()], "BroadcastToOptions")
    else:
        sizes = ctx.ints([1 if a == NEW else target[a] for a in view.layout])
        ctx.emit("BROADCAST_TO", [view.tensor, sizes], [ctx.output(view.layout)], "BroadcastToOptions")


def _broadcast_later(ctx: Lowering) -> bool:
    """Only elementwise operators read it, whose other operand has the batch in it for certain?"""
    readers = ctx.values.readers(ctx.result)
    if ctx.result.is_graph_output() or not readers:
        return False
    for reader in readers:
        others = [v for v in reader.inputs if v is not None and not ctx.values.leads_to(v, ctx.result)]
        if reader.op_type not in _BROADCASTING or not any(_has_batch(ctx, v) for v in others):
            return False
    return True


def _has_batch(ctx: Lowering, value: ir.Value) -> bool:
    maker = value.producer()
    spread = maker is not None and maker.op_type in {"Expand", "ConstantOfShape"}
    return bool(ctx.values.dynamic(value)) and not spread and ctx.values.constant(value) is None


def tile(ctx: Lowering) -> None:
    """TILE along the axes as they lie."""
    view, law = ctx.input(), ctx.values.law(ctx.node.inputs[1])
    if law is not None:
        repeats = ctx.values.numbers(law[0].astype(np.int32), law[1].astype(np.int32))
        ctx.emit("TILE", [ctx.plain(0), repeats], [ctx.output()], "TileOptions")
        return
    counts = [int(r) for r in ctx.static(1, "repeats")]
    if not counts:
        ctx.alias(view)
        return
    counts = [1 if a == NEW else counts[a] for a in view.layout]
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
    Op("Concat", Same(), lower=concat, types=STORED, int16=Same()),
    Op("Expand", Same(), _TAIL, lower=expand, types=STORED, int16=Same()),
    Op("Tile", Same(), _TAIL, lower=tile, types=STORED, int16=Same()),
    Op("ReverseSequence", Same(), _TAIL, lower=reverse_sequence, types=STORED),
)
