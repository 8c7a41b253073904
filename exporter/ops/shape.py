"""Operators that change the shape or order and no value."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import NEW, Lowering, View, identity
from exporter.ops.op import ANY, InputRole, Op, Same

__all__ = ["ROWS"]


def same(ctx: Lowering) -> None:
    """Nothing to do."""
    ctx.alias(ctx.input())


def transpose(ctx: Lowering) -> None:
    """Another view of the same tensor."""
    rank = len(ctx.shape(0))
    order = ctx.attr("perm", tuple(reversed(range(rank))))
    view = ctx.input()
    ctx.alias(View(view.tensor, tuple(NEW if a == NEW else order.index(a) for a in view.layout)))


def squeeze(ctx: Lowering) -> None:
    """The dropped axes stay in the tensor, unnamed."""
    shape, kept = ctx.shape(0), ctx.out_shape()
    rank = len(shape)
    axes = ctx.static(1, "axes", [i for i, s in enumerate(shape) if s == 1])
    gone = {int(a) % rank for a in axes}
    left = [a for a in range(rank) if a not in gone]
    if len(left) != len(kept):
        raise ctx.refuse("axes", str(sorted(gone)), "the batch cannot be squeezed")
    view = ctx.input()
    ctx.alias(View(view.tensor, tuple(NEW if a == NEW or a in gone else left.index(a) for a in view.layout)))


def reshape(ctx: Lowering) -> None:
    """RESHAPE from ONNX order; a feature map flattened for matrices only keeps its own order."""
    value = ctx.node.inputs[0]
    assert value is not None
    shape, target = ctx.shape(0), ctx.out_shape()
    view = ctx.input()
    moves = ctx.values.dynamic(ctx.result)
    if len(moves) > 1:
        raise ctx.refuse("shape", "two dimensions follow the batch", "export with a fixed batch")
    flattens = len(target) == 2 and target[0] == shape[0] and len(shape) > 2 and view.layout[0] == 0
    if flattens and view.axes != identity(len(shape)) and _only_matrices(ctx):
        order = np.arange(int(np.prod(shape[1:]))).reshape(shape[1:])
        order = order.transpose([a - 1 for a in view.axes[1:]]).reshape(-1)
        result = ctx.output()
        ctx.program.reshape_into(view.tensor, result)
        ctx.values.set_flat_order(ctx.result, order)
        return
    source = ctx.program.convert(view, identity(len(shape))).tensor
    if source.data is not None:
        ctx.alias(View(ctx.program.reshape(source, target, moves), identity(len(target))))
        return
    ctx.program.reshape_into(ctx.program.behind_reshape(source), ctx.output())


def _only_matrices(ctx: Lowering) -> bool:
    readers = ctx.values.readers(ctx.result)
    fits = all(
        r.op_type in {"Gemm", "MatMul"}
        and not r.attributes.get_int("transA", 0)
        and ctx.values.constant(r.inputs[1]) is not None
        and ctx.values.leads_to(r.inputs[0], ctx.result)
        for r in readers
    )
    return bool(readers) and fits and not ctx.result.is_graph_output()


def unsqueeze(ctx: Lowering) -> None:
    """RESHAPE that keeps the order of what is there."""
    rank = len(ctx.out_shape())
    added = {int(a) % rank for a in ctx.static(1, "axes", ctx.attr("axes", ()))}
    old = [a for a in range(rank) if a not in added]
    view = ctx.input()
    kept = [old[a] for a in view.layout if a != NEW]
    layout = list(kept)
    for axis in sorted(added):
        layout.insert(min(axis, len(layout)), axis)
    flat = ctx.program.convert(View(view.tensor, view.layout), view.axes)
    sizes = dict(zip(kept, flat.tensor.shape, strict=True))
    dynamic = frozenset(i for i, a in enumerate(layout) if a in kept and kept.index(a) in flat.tensor.dynamic)
    tensor = ctx.program.reshape(flat.tensor, [sizes.get(a, 1) for a in layout], dynamic)
    ctx.alias(View(tensor, tuple(layout)))


def slice_(ctx: Lowering) -> None:
    """STRIDED_SLICE over the physical axes; the batch is taken whole."""
    shape = ctx.shape(0)
    rank = len(shape)
    starts, ends = ctx.static(1, "starts"), ctx.static(2, "ends")
    axes = [int(a) % rank for a in ctx.static(3, "axes", list(range(len(starts))))]
    steps = ctx.static(4, "steps", [1] * len(starts))
    view = ctx.input()
    begin, end, stride = [0] * len(view.layout), list(view.tensor.shape), [1] * len(view.layout)
    for axis, first, last, step in zip(axes, starts, ends, steps, strict=True):
        place = view.layout.index(axis)
        window = range(*slice(int(first), int(last), int(step)).indices(shape[axis]))
        if place in view.tensor.dynamic:
            if (first, step) != (0, 1) or last < shape[axis]:
                raise ctx.refuse("axes", "slices the batch", "export with a fixed batch")
            continue
        if step < 0:
            raise ctx.refuse("steps", str(step), "use positive steps")
        begin[place], end[place], stride[place] = window.start, max(window.stop, window.start), window.step
    masked = sum(1 << i for i in view.tensor.dynamic)
    numbers = [ctx.ints(begin), ctx.ints(end), ctx.ints(stride)]
    ctx.emit("STRIDED_SLICE", [view.tensor, *numbers], [ctx.output(view.layout)], "StridedSliceOptions",
             beginMask=masked, endMask=masked)  # fmt: skip


def split(ctx: Lowering) -> None:
    """SPLIT into equal parts, else SPLIT_V."""
    axis = ctx.attr("axis", 0) % len(ctx.shape(0))
    view = ctx.input()
    place = view.layout.index(axis)
    count = len(ctx.node.outputs)
    sizes = [ctx.out_shape(i)[axis] for i in range(count)]
    results = [ctx.output(view.layout, i) for i in range(count)]
    if len(set(sizes)) == 1:
        ctx.emit("SPLIT", [ctx.ints(place), view.tensor], results, "SplitOptions", numSplits=count)
    else:
        ctx.emit("SPLIT_V", [view.tensor, ctx.ints(sizes), ctx.ints(place)], results, "SplitVOptions", numSplits=count)


def concat(ctx: Lowering) -> None:
    """CONCATENATION in the layout of the first computed input."""
    rank = len(ctx.out_shape())
    axis = ctx.attr("axis") % rank
    indices = [i for i in range(len(ctx.node.inputs)) if 0 not in ctx.shape(i)]
    views = [ctx.input(i) for i in indices]
    layouts = [v.layout for v in views if v.tensor.data is None] or [identity(rank)]
    turned = [lay for lay in layouts if lay != identity(rank)]
    layout = turned[0] if turned else layouts[0]
    tensors = [ctx.program.convert(v, layout).tensor for v in views]
    if len(tensors) == 1:
        ctx.alias(View(tensors[0], layout))
        return
    if len({t.dynamic for t in tensors}) > 1:
        raise ctx.refuse("", "joins a tensor that follows the batch with one that does not", "use a fixed batch")
    ctx.emit("CONCATENATION", tensors, [ctx.output(layout)], "ConcatenationOptions", axis=layout.index(axis),
             fusedActivationFunction="NONE")  # fmt: skip


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
    """TILE over the physical axes."""
    repeats = [int(r) for r in ctx.static(1, "repeats")]
    view = ctx.input()
    counts = [1 if a == NEW else repeats[a] for a in view.layout]
    ctx.emit("TILE", [view.tensor, ctx.ints(counts)], [ctx.output(view.layout)], "TileOptions")


_TAIL: tuple[InputRole, ...] = ("activation", "static")

ROWS = (
    Op("Identity", Same(), lower=same, types=ANY),
    Op("Dropout", Same(), _TAIL, lower=same, types=ANY, ignores=("seed",)),
    Op("Reshape", Same(), _TAIL, lower=reshape, types=ANY, ignores=("allowzero",)),
    Op("Flatten", Same(), lower=reshape, types=ANY, ignores=("axis",)),
    Op("Squeeze", Same(), _TAIL, lower=squeeze, types=ANY),
    Op("Unsqueeze", Same(), _TAIL, lower=unsqueeze, types=ANY),
    Op("Transpose", Same(), lower=transpose, types=ANY),
    Op("Slice", Same(), _TAIL, lower=slice_, types=ANY),
    Op("Split", Same(), _TAIL, lower=split, types=("float32", "int32"), ignores=("num_outputs",)),
    Op("Concat", Same(), lower=concat, types=ANY),
    Op("Expand", Same(), _TAIL, lower=expand, types=("float32", "int32", "bool")),
    Op("Tile", Same(), _TAIL, lower=tile, types=("float32", "int32", "int64", "bool")),
)
