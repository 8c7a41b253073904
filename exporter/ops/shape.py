"""Operators that change the shape or order and no value."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter.ops.integers import Integers
from exporter.ops.lowering import NEW, Lowering, View, identity
from exporter.ops.op import STORED, InputRole, Op, Same
from exporter.ops.regroup import arrangement

__all__ = ["ROWS"]


def same(ctx: Lowering) -> None:
    """Nothing to do."""
    ctx.alias(ctx.input())


def dropout(ctx: Lowering) -> None:
    """Nothing to do at inference; the mask keeps all."""
    training = bool(np.asarray(ctx.static(2, "training_mode", False)).item())
    ratio = float(np.asarray(ctx.static(1, "ratio", 0.5)).item()) if training else 0.0
    if ratio:
        raise ctx.refuse("training_mode", f"true, with a ratio of {ratio:g}", "export the model in eval mode")
    view = ctx.input()
    ctx.alias(view)
    if len(ctx.node.outputs) < 2:
        return
    if not view.tensor.dynamic:
        kept = ctx.program.constant(np.ones(ctx.out_shape(1), np.bool_), stem="kept")
        ctx.alias(View(kept, identity(kept.data.ndim if kept.data is not None else 0)), 1)
        return
    sizes = Integers(ctx).lengths(view.tensor, range(len(view.layout)))
    ctx.emit("FILL", [sizes, ctx.number(True, np.bool_)], [ctx.output(view.layout, 1)], "FillOptions")


def transpose(ctx: Lowering) -> None:
    """Another view of the same tensor."""
    rank = len(ctx.shape(0))
    order = ctx.attr("perm", tuple(reversed(range(rank))))
    view = ctx.input()
    turned = View(view.tensor, tuple(NEW if a == NEW else order.index(a) for a in view.layout))
    if rank == len(turned.layout) and _cut_for_products(ctx):
        turned = ctx.program.convert(turned, identity(rank))  # once for all parts
    ctx.alias(turned)


def _cut_for_products(ctx: Lowering) -> bool:
    """Is all that reads it a cut into two or more parts for matrix products: queries, keys and values in one tensor?"""
    cuts = ctx.values.readers(ctx.result)
    parts = [v for cut in cuts for v in cut.outputs]
    return (
        len(parts) > 1
        and all(cut.op_type in {"Slice", "Split", "Gather"} for cut in cuts)
        and all(_for_products(ctx, part) for part in parts)
    )


def _for_products(ctx: Lowering, value: ir.Value) -> bool:
    """Does a matrix product, and nothing else, read the value or what Squeeze, Transpose and scaling make of it?"""
    readers = ctx.values.readers(value)
    return (
        bool(readers)
        and not value.is_graph_output()
        and all(
            r.op_type == "MatMul"
            or (r.op_type in {"Squeeze", "Transpose", "Mul", "Div"} and _for_products(ctx, r.outputs[0]))
            for r in readers
        )
    )


def squeeze(ctx: Lowering) -> None:
    """The dropped axes stay in the tensor, unnamed."""
    shape, rank = ctx.shape(0), len(ctx.shape(0))
    axes = ctx.static(1, "axes", [i for i, s in enumerate(shape) if s == 1])
    gone = {int(a) % rank for a in np.atleast_1d(np.asarray(axes, np.int64))}
    view = ctx.input()
    if view.tensor.dynamic and not ctx.has(1):
        raise ctx.refuse("axes", "left out, where a batch of 1 would go too", "name the axes")
    if gone & {view.layout[i] for i in view.tensor.dynamic}:
        raise ctx.refuse("axes", str(sorted(gone)), "the batch cannot be squeezed: export with a fixed batch")
    left = [a for a in range(rank) if a not in gone]
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
    flattens = len(target) == 2 and len(shape) > 2 and target[0] == shape[0] and view.layout[0] == 0
    if flattens and view.axes != identity(len(shape)) and _only_matrices(ctx):
        order = np.arange(int(np.prod(shape[1:]))).reshape(shape[1:])
        order = order.transpose([a - 1 for a in view.axes[1:]]).reshape(-1)
        result = ctx.output()
        ctx.program.reshape_into(view.tensor, result)
        ctx.values.set_flat_order(ctx.result, order)
        return
    found = None if view.tensor.data is not None else arrangement(view, shape, target, moves)
    if found is not None:
        before, layout = found
        sizes, places = [target[a] for a in layout], frozenset(layout.index(a) for a in moves)
        ctx.alias(View(ctx.program.reshape(ctx.program.convert(view, before).tensor, sizes, places), layout))
        return
    source = ctx.program.convert(view, identity(len(shape))).tensor
    if source.data is not None:
        if source.data.size != int(np.prod(target)):
            raise ctx.refuse("shape", f"a constant of {source.data.size} elements, where {target} holds another number")
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
    """Unnamed axes of the tensor get the new names; RESHAPE where there are too few."""
    rank = len(ctx.out_shape())
    added = sorted({int(a) % rank for a in np.atleast_1d(ctx.static(1, "axes"))})
    old = [a for a in range(rank) if a not in added]
    view = ctx.input()
    layout = [NEW if a == NEW else old[a] for a in view.layout]
    if layout.count(NEW) >= len(added):
        for axis in added:
            layout[layout.index(NEW)] = axis
        ctx.alias(View(view.tensor, tuple(layout)))
        return
    flat = ctx.program.convert(view, view.axes).tensor
    kept = [a for a in layout if a != NEW]
    layout = list(kept)
    for axis in added:
        layout.insert(min(axis, len(layout)), axis)
    sizes = dict(zip(kept, flat.shape, strict=True))
    dynamic = frozenset(i for i, a in enumerate(layout) if a in sizes and kept.index(a) in flat.dynamic)
    tensor = ctx.program.reshape(flat, [sizes.get(a, 1) for a in layout], dynamic)
    ctx.alias(View(tensor, tuple(layout)))


_TAIL: tuple[InputRole, ...] = ("activation", "static")

ROWS = (
    Op("Identity", Same(), lower=same, types=STORED, int16=Same()),
    Op("Dropout", Same(), _TAIL, lower=dropout, types=STORED, ignores=("seed",), int16=Same()),
    Op("Reshape", Same(), _TAIL, lower=reshape, types=STORED, ignores=("allowzero",), int16=Same()),
    Op("Flatten", Same(), lower=reshape, types=STORED, ignores=("axis",), int16=Same()),
    Op("Squeeze", Same(), _TAIL, lower=squeeze, types=STORED, int16=Same()),
    Op("Unsqueeze", Same(), _TAIL, lower=unsqueeze, types=STORED, int16=Same()),
    Op("Transpose", Same(), lower=transpose, types=STORED, int16=Same()),
)
