"""Copying elements to other places: joined, repeated, spread, turned round."""

from __future__ import annotations

from exporter.ops.batch import spread
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
    follows = max((t.dynamic - {place} for t in tensors), key=len)
    source = next((t for t in tensors if t.dynamic >= follows), tensors[0])
    tensors = [spread(ctx.program, t, follows, source) for t in tensors]
    if len({t.dynamic - {place} for t in tensors}) > 1:
        raise ctx.refuse("", "joins a tensor that follows the batch with one that does not", "use a fixed batch")
    result = ctx.output(layout)
    with delivering(ctx, result, _JOINED) as target:
        ctx.emit("CONCATENATION", [carried(ctx, t, _JOINED) for t in tensors], [target], "ConcatenationOptions",
                 axis=place, fusedActivationFunction="NONE")  # fmt: skip


def expand(ctx: Lowering) -> None:
    """BROADCAST_TO, or TILE beside a dynamic batch; growing with the batch is left to those readers that need it."""
    target, moves = ctx.out_shape(), ctx.moves()
    plain, lead = ctx.plain(0), len(target) - len(ctx.shape(0))
    tensor = ctx.program.reshape(plain, [1] * lead + list(plain.shape), frozenset(i + lead for i in plain.dynamic))
    grown = [i for i, size in enumerate(target) if tensor.shape[i] == 1 != size]
    if grown and not moves:
        ctx.emit("BROADCAST_TO", [plain, ctx.ints(target)], [ctx.output()], "BroadcastToOptions")
        return
    if any(i in moves for i in grown):
        raise ctx.refuse("shape", "a multiple of the batch", "export with a fixed batch")
    if grown:
        counts = [size if i in grown else 1 for i, size in enumerate(target)]
        whole = ctx.program.temp(tensor, target, tensor.dynamic, f"{ctx.result.name}/tiled")
        ctx.emit("TILE", [tensor, ctx.ints(counts)], [whole], "TileOptions")
        tensor = whole
    ctx.alias(View(tensor, identity(len(target))))


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
