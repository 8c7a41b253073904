"""Where maxima lie, and putting them back there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.lowering import Array, Lowering, Tensor
from exporter.ops.moves import Moves
from exporter.ops.steps import Steps
from exporter.ops.windows import Window, clamped, image_layout, window

__all__ = ["max_pool_with_indices", "max_unpool", "unpooled"]


def max_pool_with_indices(ctx: Lowering, win: Window, out: tuple[int, ...]) -> None:
    """The places of each window side by side: REDUCE_MAX gives the values, ARG_MAX and a table the indices."""
    layout = image_layout(len(ctx.shape(0)), ctx)
    moves, steps = Moves(ctx), Steps(ctx)
    image = ctx.input(0, layout).tensor
    if image.dynamic:
        raise ctx.refuse("Indices", "count through the whole batch", "export with a fixed batch")
    batch, *sizes, channels = image.shape
    pixels, windows, reach = math.prod(sizes), math.prod(out), math.prod(win.kernel)
    places = [clamped(ctx, win.taps(axis, out[axis]), size) for axis, size in enumerate(sizes)]
    rows = _flat(places, sizes)
    columns = _flat(places, sizes, by_column=True) if ctx.attr("storage_order", 0) else rows
    values = steps.cast(moves.reshape(image, [batch, pixels, channels]), np.float32)
    seen = moves.reshape(moves.gather(values, rows.reshape(-1), 1), [batch, windows, reach, channels])
    result = ctx.output(layout)
    largest = moves.reshape(steps.reduce("REDUCE_MAX", seen, [2], keep=False), result.shape)
    steps.cast(largest, result.dtype, result)
    tap = Tensor(ctx.program.name(f"{result.name}/tap"), (batch, windows, channels), np.dtype(np.int32))
    ctx.emit("ARG_MAX", [seen, ctx.ints(2)], [tap], "ArgMaxOptions", outputType=2)
    entry = steps.add(tap, np.arange(windows).reshape(1, -1, 1) * reach)
    spatial = moves.gather(ctx.ints(columns.reshape(-1)), entry, 0)
    first = np.arange(batch * channels).reshape(batch, 1, channels) * pixels
    index = steps.cast(steps.add(spatial, first), np.int64)
    moves.reshape(index, (), into=ctx.output(layout, 1))


def _flat(places: Sequence[Array], sizes: Sequence[int], *, by_column: bool = False) -> Array:
    """The index of each tap of each window among all pixels, [windows, taps]; ``places`` by axis [count, taps]."""
    axes = len(places)
    total: Array = np.zeros((1,) * (2 * axes), np.int64)
    for axis, array in enumerate(places):
        step = math.prod(sizes[:axis]) if by_column else math.prod(sizes[axis + 1 :])
        shape = [1] * (2 * axes)
        shape[axis], shape[axes + axis] = array.shape
        total = total + array.reshape(shape) * step
    return total.reshape(math.prod(len(p) for p in places), -1)


def unpooled(node: ir.Node) -> Sequence[tuple[int, ...]]:
    """For ``Op.infer``: the shape that is given, which onnx's inference does not read."""
    given = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return [] if given is None else [tuple(int(n) for n in given)]


def max_unpool(ctx: Lowering) -> None:
    """SCATTER_ND, which adds: so windows that overlap, where two places may give the same index, are refused."""
    shape = ctx.shape(0)
    kernel = tuple(ctx.attr("kernel_shape"))
    win = window(ctx, kernel, shape[2:])
    if any(k > s for k, s in zip(win.kernel, win.strides, strict=True)):
        raise ctx.refuse("strides", f"{win.strides} for windows of {win.kernel}", "windows that do not overlap work")
    moves, steps = Moves(ctx), Steps(ctx)
    data = ctx.plain(0)
    if data.dynamic:
        raise ctx.refuse("Indices", "count through the whole batch", "export with a fixed batch")
    inner = [
        (n - 1) * s - b - e + k for n, s, (b, e), k in zip(shape[2:], win.strides, win.pads, win.kernel, strict=True)
    ]
    target = ctx.out_shape()
    more = [t - n for t, n in zip(target[2:], inner, strict=True)]
    if min(more) < 0:
        raise ctx.refuse("output_shape", f"{target[2:]}, smaller than the {inner} of the windows", "give a larger one")
    count = math.prod(shape)
    places = moves.reshape(steps.cast(ctx.plain(1), np.int32), [count, 1])
    updates = moves.reshape(data, [count])
    flat = moves.temp(data, [math.prod(shape[:2]) * math.prod(inner)], frozenset(), "scattered")
    ctx.emit("SCATTER_ND", [places, updates, ctx.ints(flat.shape)], [flat], "ScatterNdOptions")
    result = ctx.output()
    if not any(more):
        moves.reshape(flat, result.shape, into=result)
        return
    image = moves.reshape(flat, [*shape[:2], *inner])
    moves.pad(image, [(0, 0), (0, 0), *((0, m) for m in more)], into=result)
