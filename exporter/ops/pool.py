"""Pooling over windows and whole feature maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from exporter.ops.lowering import Array, Lowering, Tensor
from exporter.ops.op import Free, Op, Same
from exporter.ops.windows import Window, image_layout, pad_image, window

__all__ = ["ROWS"]


def _overhang(ctx: Lowering, win: Window, sizes: tuple[int, ...]) -> tuple[int, int]:
    """With ceil_mode: how far the last window reaches past the padded input."""
    out = ctx.out_shape()[2:]
    rows = []
    for axis, (size, pair) in enumerate(zip(sizes, win.pads[2 - len(sizes) :], strict=True), 2 - len(sizes)):
        need = (out[axis - (2 - len(sizes))] - 1) * win.strides[axis] + win.kernel[axis]
        rows.append(max(0, need - size - sum(pair)))
    return (0, rows[0]) if len(rows) == 1 else (rows[0], rows[1])


def _emit_pool(ctx: Lowering, code: str, image: Tensor, result: Tensor, win: Window, *, same: bool, fused: str) -> None:
    fields: dict[str, Any] = {
        "padding": "SAME" if same else "VALID",
        "strideH": win.strides[0],
        "strideW": win.strides[1],
        "filterHeight": win.kernel[0],
        "filterWidth": win.kernel[1],
        "fusedActivationFunction": fused,
    }
    ctx.emit(code, [image], [result], "Pool2DOptions", **fields)


def _window(ctx: Lowering) -> tuple[Window, tuple[int, ...]]:
    sizes = ctx.shape(0)[2:]
    win = window(ctx, ctx.attr("kernel_shape"), sizes)
    if any(d != 1 for d in win.dilations):
        raise ctx.refuse("dilations", str(win.dilations), "TFLite pools without dilation")
    return win, sizes


def max_pool(ctx: Lowering) -> None:
    """MAX_POOL_2D; padding that TFLite cannot say itself is the lowest number."""
    if len([o for o in ctx.node.outputs if o.name and o.uses()]) > 1 or len(ctx.node.outputs) > 1:
        raise ctx.refuse("Indices", "asked for", "TFLite gives the values only")
    win, sizes = _window(ctx)
    layout = image_layout(len(ctx.shape(0)), ctx)
    image = ctx.input(0, layout).tensor
    over = _overhang(ctx, win, sizes)
    same = win.same and not any(over)
    if not same:
        image = pad_image(ctx, image, win, over, lowest=True)
    _emit_pool(ctx, "MAX_POOL_2D", image, ctx.output(layout), win, same=same, fused=ctx.fused)


def average_pool(ctx: Lowering) -> None:
    """AVERAGE_POOL_2D; where padding must not count, the sums are divided by the true counts."""
    win, sizes = _window(ctx)
    layout = image_layout(len(ctx.shape(0)), ctx)
    image = ctx.input(0, layout).tensor
    over = _overhang(ctx, win, sizes)
    counted = bool(ctx.attr("count_include_pad", 0))
    if not any(map(any, win.pads)) and not any(over):
        _emit_pool(ctx, "AVERAGE_POOL_2D", image, ctx.output(layout), win, same=False, fused=ctx.fused)
        return
    if win.same and not counted and not any(over):
        _emit_pool(ctx, "AVERAGE_POOL_2D", image, ctx.output(layout), win, same=True, fused=ctx.fused)
        return
    if counted and not any(over):
        padded = pad_image(ctx, image, win)
        _emit_pool(ctx, "AVERAGE_POOL_2D", padded, ctx.output(layout), win, same=False, fused=ctx.fused)
        return
    if image.quant is not None:
        raise ctx.refuse("pads", "padding that does not count, in int8", "keep this node in float")
    padded = pad_image(ctx, image, win, over)
    ratio = _ratio(ctx, win, sizes, counted)
    result = ctx.output(layout)
    mean = ctx.program.temp(result, result.shape, result.dynamic, f"{ctx.result.name}/mean")
    _emit_pool(ctx, "AVERAGE_POOL_2D", padded, mean, win, same=False, fused="NONE")
    ctx.emit("MUL", [mean, ctx.number(ratio)], [result], "MulOptions", fusedActivationFunction=ctx.fused)


def _ratio(ctx: Lowering, win: Window, sizes: tuple[int, ...], counted: bool) -> Array:
    """Window size over the number of places that count, [1, rows, columns, 1]."""
    factors = []
    full = (1,) * (2 - len(sizes)) + tuple(sizes)
    out = (1,) * (2 - len(sizes)) + tuple(ctx.out_shape()[2:])
    for axis in (0, 1):
        begin, end = win.pads[axis]
        starts = np.arange(out[axis]) * win.strides[axis] - begin
        low = np.maximum(starts, -begin if counted else 0)
        high = np.minimum(starts + win.kernel[axis], full[axis] + (end if counted else 0))
        factors.append(win.kernel[axis] / np.maximum(high - low, 1))
    grid: Array = factors[0][:, None] * factors[1][None, :]
    return grid[None, :, :, None].astype(np.float32)


def global_pool(code: str) -> Callable[[Lowering], None]:
    """A reduction over the spatial axes: MEAN rounds as ONNX Runtime does, AVERAGE_POOL_2D does not."""

    def lower(ctx: Lowering) -> None:
        layout = image_layout(len(ctx.shape(0)), ctx)
        image = ctx.input(0, layout).tensor
        ctx.emit(code, [image, ctx.ints([1, 2])], [ctx.output(layout)], "ReducerOptions", keepDims=True)

    return lower


def _no_padding(node: Any) -> bool:
    pads = node.attributes.get_ints("pads", ()) or ()
    plain = not any(pads) and node.attributes.get_string("auto_pad", "NOTSET") in {"NOTSET", "VALID"}
    return plain and not node.attributes.get_int("ceil_mode", 0)


ROWS = (
    Op("MaxPool", Same(), lower=max_pool, fuses=True, ignores=("ceil_mode", "storage_order")),
    Op("AveragePool", Same(), lower=average_pool, fuses=True, int8_when=_no_padding, ignores=("ceil_mode",)),
    Op("GlobalMaxPool", Same(), lower=global_pool("REDUCE_MAX")),
    Op("GlobalAveragePool", Free(), lower=global_pool("MEAN")),
)
