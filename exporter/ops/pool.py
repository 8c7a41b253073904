"""Pooling over windows of one to three spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.conv import convolve
from exporter.ops.lowering import Array, Lowering, Quant, Tensor
from exporter.ops.moves import Moves
from exporter.ops.op import Float, Op, Same
from exporter.ops.pool_indices import max_pool_with_indices, max_unpool, unpooled
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, REALS, widened
from exporter.ops.windows import Pads, Window, clamped, image_layout, pad_image, window

__all__ = ["ROWS"]

_FAST = 25  # taps of XNNPACK's depthwise kernels that read each input once


def max_pool(ctx: Lowering) -> None:
    """MAX_POOL_2D; padding that TFLite cannot say itself is the lowest number."""
    win, out = _window(ctx)
    if len(ctx.node.outputs) > 1 and ctx.node.outputs[1].name:
        max_pool_with_indices(ctx, win, out)
        return
    layout = image_layout(len(ctx.shape(0)), ctx)
    image = ctx.input(0, layout).tensor
    result = ctx.output(layout)
    steps = Steps(ctx)
    if image.quant is None and image.dtype != np.float32:  # the kernel for bytes wants a scale
        image = steps.cast(image, np.float32)
    made = result if image.dtype == result.dtype else Tensor(
        ctx.program.name(f"{result.name}/real"), result.shape, image.dtype, result.dynamic
    )  # fmt: skip
    for axis, dilation in enumerate(win.dilations):
        if dilation > 1:
            places = clamped(ctx, win.taps(axis, out[axis]), image.shape[1 + axis])
            image, win = _apart(ctx, image, win, axis, places)
    pads = _reaching(win, image.shape[1:-1], out)
    same = pads == win.pads and len(out) == 2 and win.is_same(image.shape[1:-1])
    if not same:
        image = pad_image(ctx, image, pads, lowest=True)
    _pool(ctx, "MAX_POOL_2D", image, win, made, same=same, fused=ctx.fused)
    if made is not result:
        steps.cast(made, result.dtype, result)


def average_pool(ctx: Lowering) -> None:
    """AVERAGE_POOL_2D; where padding must not count, the means are scaled by the true counts."""
    win, out = _window(ctx)
    layout = image_layout(len(ctx.shape(0)), ctx)
    image = ctx.input(0, layout).tensor
    result = ctx.output(layout)
    sizes = image.shape[1:-1]
    counted = bool(ctx.attr("count_include_pad", 0))
    if _is_plain_same(win, sizes, out) and not counted:
        _pool(ctx, "AVERAGE_POOL_2D", image, win, result, same=True, fused=ctx.fused)
        return
    image, ready = _padded(ctx, image, win, out)
    ratio = _ratio(win, sizes, out, counted)
    if (ratio == 1).all():
        _pool(ctx, "AVERAGE_POOL_2D", image, ready, result, fused=ctx.fused)
        return
    mean = ctx.temp(result, tag="mean")
    _pool(ctx, "AVERAGE_POOL_2D", image, ready, mean)
    Steps(ctx).binary("MUL", mean, ratio, result, fusedActivationFunction=ctx.fused)


def lp_pool(ctx: Lowering) -> None:
    """(sum of |x|^p over a window) ^ (1/p), the sum as a mean times the window's size."""
    win, out = _window(ctx)
    power = float(ctx.attr("p", 2))
    layout = image_layout(len(ctx.shape(0)), ctx)
    image = ctx.input(0, layout).tensor
    result = ctx.output(layout)
    steps = Steps(ctx)
    raised = steps.mul(image, image) if power == 2 else steps.unary("ABS", image)
    if power not in {1, 2}:
        raised = steps.binary("POW", raised, power)
    padded, ready = _padded(ctx, raised, win, out)
    mean = ctx.temp(result, tag="mean")
    _pool(ctx, "AVERAGE_POOL_2D", padded, ready, mean)
    total = steps.mul(mean, math.prod(win.kernel), result if power == 1 else None)
    if power == 2:
        steps.unary("SQRT", total, result)
    elif power != 1:
        steps.binary("POW", total, 1 / power, result)


def _window(ctx: Lowering) -> tuple[Window, tuple[int, ...]]:
    """The window and the output's spatial sizes, two axes at least."""
    sizes, out = ctx.shape(0)[2:], ctx.out_shape()[2:]
    win = window(ctx, ctx.attr("kernel_shape"), sizes).flat()
    if ctx.attr("auto_pad", "NOTSET").startswith("SAME"):
        rows = zip(reversed(sizes), reversed(win.strides), reversed(win.kernel), strict=False)
        gaps = [(n - 1) % s + 1 > k for n, s, k in rows]
        if set(win.dilations) != {1} or any(gaps):
            found = f"SAME with strides {win.strides} and dilations {win.dilations}"
            raise ctx.refuse("auto_pad", f"{found}, where ONNX Runtime departs from ONNX", "give pads")
    for size, count, stride, (begin, _) in zip(
        sizes, out, win.strides[-len(out) :], win.pads[-len(out) :], strict=True
    ):
        if (count - 1) * stride >= size + begin:
            raise ctx.refuse("ceil_mode", f"{count} windows, the last of them behind the input", "give pads")
    return win, (1,) * (2 - len(out)) + tuple(out)


def _reaching(win: Window, sizes: tuple[int, ...], out: tuple[int, ...]) -> Pads:
    """The pads, longer at the end where ceil_mode lets the last window hang over."""
    pads = []
    for (begin, end), size, count, stride, reach in zip(win.pads, sizes, out, win.strides, win.reach, strict=True):
        pads.append((begin, max(end, (count - 1) * stride + reach - size - begin)))
    return tuple(pads)


def _is_plain_same(win: Window, sizes: tuple[int, ...], out: tuple[int, ...]) -> bool:
    plain = len(sizes) == 2 and set(win.dilations) == {1}
    return plain and win.is_same(sizes) and _reaching(win, sizes, out) == win.pads


def _padded(ctx: Lowering, image: Tensor, win: Window, out: tuple[int, ...]) -> tuple[Tensor, Window]:
    """The image with its zeros around, its dilated windows pulled apart."""
    pads = _reaching(win, image.shape[1:-1], out)
    image = pad_image(ctx, image, pads)
    win = replace(win, pads=((0, 0),) * len(pads))
    for axis, dilation in enumerate(win.dilations):
        if dilation > 1:
            image, win = _apart(ctx, image, win, axis, win.taps(axis, out[axis]))
    return image, win


def _apart(ctx: Lowering, image: Tensor, win: Window, axis: int, places: Array) -> tuple[Tensor, Window]:
    """The places of each window along an axis side by side: TFLite pools without dilation."""
    image = Moves(ctx).gather(image, places.reshape(-1), 1 + axis)
    return image, replace(
        win,
        strides=_with(win.strides, axis, win.kernel[axis]),
        dilations=_with(win.dilations, axis, 1),
        pads=_with(win.pads, axis, (0, 0)),
    )


def _with(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _pool(
    ctx: Lowering, code: str, image: Tensor, win: Window, result: Tensor, *, same: bool = False, fused: str = "NONE"
) -> None:
    """Over three axes: over rows and columns, then over depth."""
    if len(win.kernel) == 3:
        moves = Moves(ctx)
        batch, depth, rows, columns, channels = image.shape
        _, deep, high, wide, _ = result.shape
        planes = moves.reshape(image, [batch * depth, rows, columns, channels])
        flat = moves.temp(result, [batch * depth, high, wide, channels], result.dynamic, "planes")
        _pool(ctx, code, planes, win.part(1, 3), flat)
        upright = moves.reshape(flat, [batch, depth, high * wide, channels])
        made = moves.temp(result, [batch, deep, high * wide, channels], result.dynamic, "depth")
        column = Window((win.kernel[0], 1), (win.strides[0], 1), (1, 1), ((0, 0), (0, 0)))
        _pool(ctx, code, upright, column, made, fused=fused)
        moves.reshape(made, result.shape, into=result)
        return
    quant = result.quant
    fast = quant is not None and quant.bits == 8 and not same and math.prod(win.kernel) <= _FAST
    if code == "AVERAGE_POOL_2D" and quant is not None and fast:
        _mean_by_ones(ctx, image, win, result, quant, fused)
        return
    fields: dict[str, Any] = {
        "padding": "SAME" if same else "VALID",
        "strideH": win.strides[0],
        "strideW": win.strides[1],
        "filterHeight": win.kernel[0],
        "filterWidth": win.kernel[1],
        "fusedActivationFunction": fused,
    }
    ctx.emit(code, [image], [result], "Pool2DOptions", **fields)


def _mean_by_ones(ctx: Lowering, image: Tensor, win: Window, result: Tensor, quant: Quant, fused: str) -> None:
    """A depthwise convolution with weights of 1 at scale 1 / count: XNNPACK has it in int8, and no average pool."""
    channels, count = image.shape[3], math.prod(win.kernel)
    each = Quant(np.full(channels, 1 / count, np.float32), np.zeros(channels, np.int64), 3)
    ones = ctx.program.constant(np.ones((1, *win.kernel, channels), np.int8), each, "ones")
    scale = (quant.scale * each.scale).astype(np.float32)
    bias = ctx.program.constant(np.zeros(channels, np.int32), Quant(scale, each.zero_point, 0), "bias")
    convolve(ctx, image, ones, bias, win, result, fused=fused, depthwise=True)


def _ratio(win: Window, sizes: tuple[int, ...], out: tuple[int, ...], counted: bool) -> Array:
    """Window size over the number of places that count, [1, ..., 1]."""
    result = np.ones(())
    for axis, size in enumerate(sizes):
        begin, end = win.pads[axis] if counted else (0, 0)
        places = win.taps(axis, out[axis])
        valid = ((places >= -begin) & (places < size + end)).sum(1)
        result = np.multiply.outer(result, win.kernel[axis] / np.maximum(valid, 1))
    return result[None, ..., None].astype(np.float32)


def _average_int8(node: ir.Node) -> bool:
    """Where every window counts alike, or TFLite's own SAME does what is asked."""
    said: Callable[..., Any] = partial(graph.attribute, node)
    kernel = said("kernel_shape", ())
    pads = said("pads", (0,) * (2 * len(kernel)))
    auto = said("auto_pad", "NOTSET")
    if len(kernel) > 2 or said("ceil_mode", 0) or set(said("dilations", (1,))) != {1}:
        return False
    if said("count_include_pad", 0) or auto == "VALID" or (auto == "NOTSET" and not any(pads)):
        return True
    sides = zip(kernel, pads, pads[len(kernel) :], strict=False)
    centred = all((k - 1) // 2 == b and k // 2 == e for k, b, e in sides)
    return auto == "SAME_UPPER" or (auto == "NOTSET" and centred and set(said("strides", (1,))) == {1})


_BY_INDEX = Float("places elements by index")

ROWS = (
    Op(
        "MaxPool",
        Same(),
        lower=widened(max_pool, REAL),
        fuses=True,
        types=("float32", "int8", "uint8", *REAL),
        ignores=("ceil_mode", "storage_order"),
        int16=Same(),
    ),
    Op(
        "AveragePool",
        Same(),
        lower=widened(average_pool, REAL),
        fuses=True,
        types=REALS,
        int8_when=_average_int8,
        ignores=("ceil_mode",),
        int16=Same(),
    ),
    Op(
        "LpPool",
        Float("no integer kernel in either runtime"),
        lower=widened(lp_pool, REAL),
        types=REALS,
        ignores=("ceil_mode",),
    ),
    Op(
        "MaxUnpool",
        Float("places elements by index"),
        ("activation", "static", "static"),
        lower=widened(max_unpool, REAL),
        types=REALS,
        infer=unpooled,
    ),
)
