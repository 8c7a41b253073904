"""Transposed convolutions as plain ones (see phases): TRANSPOSE_CONV fixes the batch, and is slower in XNNPACK.

The phases are channels of one convolution, and DEPTH_TO_SPACE interleaves them.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from exporter.ops.conv import convolve, convolve_volume
from exporter.ops.lowering import Array, Lowering, Tensor
from exporter.ops.moves import Moves
from exporter.ops.op import Float, Op
from exporter.ops.phases import POINT, Axis, axes_of, phases_of
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, REALS, widened
from exporter.ops.windows import Pads, Window, image_layout

__all__ = ["ROWS"]


def conv_transpose(ctx: Lowering) -> None:
    """A convolution for all phases at once, or one for each where there are groups."""
    shape, kernel = ctx.shape(0), ctx.shape(1)
    layout = image_layout(len(shape), ctx)
    group = ctx.attr("group", 1)
    if shape[1] != kernel[0] or shape[1] % group:
        raise ctx.refuse("group", f"{group} with weights {kernel} over {shape[1]} channels", "the weights do not fit")
    axes = _axes(ctx)
    image = ctx.input(0, layout).tensor
    bias = ctx.const(2)
    late = ctx.plain(2) if ctx.has(2) and bias is None else None
    numbers = np.zeros(kernel[1] * group, np.float32) if bias is None else bias.astype(np.float32)
    result = ctx.output(layout)
    made = result if late is None else ctx.temp(result, tag="product")
    weight = ctx.const(1)
    if weight is None:
        _stuffed(ctx, image, axes, group, numbers, made)
    else:
        flat = weight.reshape(*kernel[:2], *(axis.kernel for axis in axes))
        _phased(ctx, image, axes, group, flat, numbers, made)
    if late is not None:
        Steps(ctx).add(made, late, result)


def _axes(ctx: Lowering) -> list[Axis]:
    """The spatial axes, two at least (a 1-d one behind an axis of size 1)."""
    sizes, kernel, out = ctx.shape(0)[2:], ctx.shape(1)[2:], ctx.out_shape()[2:]
    if tuple(ctx.attr("kernel_shape", kernel)) != tuple(kernel) or len(kernel) != len(sizes):
        raise ctx.refuse("kernel_shape", f"{ctx.attr('kernel_shape', kernel)} for {kernel}", "make them agree")
    auto = ctx.attr("auto_pad", "NOTSET")
    if auto not in {"NOTSET", "", "SAME_UPPER", "SAME_LOWER", "VALID"}:
        raise ctx.refuse("auto_pad", repr(auto), "NOTSET, SAME_UPPER, SAME_LOWER and VALID are known")
    axes = axes_of(ctx.attr, sizes, kernel, out)
    if auto.startswith("SAME") and ctx.attr("output_shape") is None and any(a.out != a.stride * a.size for a in axes):
        found = f"{ctx.attr('output_padding')} with auto_pad, which ONNX Runtime ignores"
        raise ctx.refuse("output_padding", found, "leave it out")
    return [POINT] * (2 - len(axes)) + axes


def _phased(
    ctx: Lowering, image: Tensor, axes: list[Axis], group: int, weight: Array, bias: Array, result: Tensor
) -> None:
    moves = Moves(ctx)
    phases = phases_of(weight, axes, group)
    window = Window(tuple(a.taps for a in axes), (1,) * len(axes), (1,) * len(axes), tuple(a.pads for a in axes))
    blocks = [a.blocks[1] - a.blocks[0] + 1 for a in axes]
    strides = [a.stride for a in axes]
    if set(strides) == {1}:
        (kernel,) = phases.values()
        _plain(ctx, image, kernel, bias, window, group, result)
        return
    square = len(axes) == 2 and strides[0] == strides[1]
    inner = strides if square else strides[-1:]  # phases that lie side by side in the channels
    rows: list[Tensor] = []
    for outer in itertools.product(*(range(s) for s in strides[: len(strides) - len(inner)])):
        kernels = [phases[(*outer, *phase)] for phase in itertools.product(*(range(s) for s in inner))]
        if group == 1:
            kernels = [np.concatenate(kernels)]
        parts = []
        for kernel in kernels:
            made = moves.temp(result, [image.shape[0], *blocks, len(kernel)], result.dynamic, "phase")
            _plain(ctx, image, kernel, np.tile(bias, len(kernel) // len(bias)), window, group, made)
            parts.append(made)
        rows.append(moves.join(parts, len(axes) + 1))
    crop = [(0, 0), *(a.crop for a in axes), (0, 0)]
    whole = [image.shape[0], *(b * s for b, s in zip(blocks, strides, strict=True)), len(bias)]
    cropped = any(map(any, crop))
    if square:
        into = moves.temp(result, whole, result.dynamic, "spread") if cropped else result
        ctx.emit("DEPTH_TO_SPACE", rows, [into], "DepthToSpaceOptions", blockSize=strides[0])
        if cropped:
            moves.crop(into, crop, into=result)
        return
    spread = _interleaved(ctx, rows, strides[:-1], blocks)
    if cropped:
        moves.crop(moves.reshape(spread, whole, result.dynamic), crop, into=result)
    else:
        moves.reshape(spread, whole, into=result)


def _plain(
    ctx: Lowering, image: Tensor, kernel: Array, bias: Array, window: Window, group: int, result: Tensor
) -> None:
    """A convolution with constant float weights [out, in of a group, ...]."""
    numbers = ctx.number(bias)
    if kernel.ndim == 5:
        flat = kernel.transpose(0, 3, 4, 2, 1).reshape(len(kernel), *kernel.shape[3:], -1)
        convolve_volume(ctx, image, ctx.number(flat), numbers, window, group, result)
        return
    depthwise = kernel.shape[1] == 1 and group > 1
    filters = ctx.number(kernel.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1)))
    convolve(ctx, image, filters, numbers, window, result, depthwise=depthwise)


def _interleaved(ctx: Lowering, rows: list[Tensor], strides: list[int], blocks: list[int]) -> Tensor:
    """Join the phases of every axis but the last, from the inside out: [blocks, 1, rest] -> [blocks, phases, rest]."""
    moves = Moves(ctx)
    batch = rows[0].shape[0]
    for axis in reversed(range(len(strides))):
        outer = batch * math.prod(blocks[: axis + 1])
        size = math.prod(rows[0].shape) // outer
        flat = [moves.reshape(t, [outer, 1, size]) for t in rows]
        step = strides[axis]
        rows = [moves.join(flat[i : i + step], 1) for i in range(0, len(flat), step)]
    return rows[0]


def _stuffed(ctx: Lowering, image: Tensor, axes: list[Axis], group: int, bias: Array, result: Tensor) -> None:
    """Weights computed at run time: turned round, over the input with zeros between its places."""
    moves = Moves(ctx)
    pads: Pads = tuple((a.reach - 1 - a.pad, a.out + a.pad - a.size * a.stride) for a in axes)
    for i, axis in enumerate(axes, 1):
        if axis.stride > 1:
            shape = list(image.shape)
            column = moves.reshape(image, [math.prod(shape[: i + 1]), 1, math.prod(shape[i + 1 :])])
            shape[i] *= axis.stride
            image = moves.reshape(moves.pad(column, [(0, 0), (0, axis.stride - 1), (0, 0)]), shape)
    window = Window(tuple(a.kernel for a in axes), (1,) * len(axes), tuple(a.dilation for a in axes), pads)
    inside, out = ctx.shape(1)[:2]
    if ctx.plain(1).dynamic:
        raise ctx.refuse("W", "weights that follow the batch", "export with a fixed batch")
    weight = moves.reshape(ctx.plain(1), [group, inside // group, out, *window.kernel], frozenset())
    places = list(range(3, 3 + len(axes)))
    turned = moves.temp(weight, weight.shape, frozenset(), "turned")
    ctx.emit("REVERSE_V2", [weight, ctx.ints(places)], [turned], "ReverseV2Options")
    if len(axes) == 3:
        places = [4, 5, 3]
    filters = moves.transpose(turned, [0, 2, *places, 1])
    space = [window.kernel[p - 3] for p in places]
    if len(axes) == 3:
        flat = moves.reshape(filters, [group * out, *space[:2], space[2] * (inside // group)], frozenset())
        convolve_volume(ctx, image, flat, ctx.number(bias), window, group, result)
        return
    flat = moves.reshape(filters, [group * out, *space, inside // group], frozenset())
    convolve(ctx, image, flat, ctx.number(bias), window, result)


ROWS = (
    Op(
        "ConvTranspose",
        Float("ONNX Runtime has no integer ConvTranspose"),
        ("activation", "weight", "bias"),
        lower=widened(conv_transpose, REAL),
        types=REALS,
    ),
)
