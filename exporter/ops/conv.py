"""Convolutions over one, two and three spatial axes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.lowering import NEW, Array, Layout, Lowering, Quant, Tensor
from exporter.ops.moves import Moves
from exporter.ops.op import Free, Op
from exporter.ops.steps import Steps
from exporter.ops.stored import weight_tensor
from exporter.ops.widened import REAL, REALS, widened
from exporter.ops.windows import Window, image_layout, pad_image, window

__all__ = ["ROWS", "bias_tensor", "convolve", "convolve_volume", "filters_tensor", "split_bias"]


def conv(ctx: Lowering) -> None:
    """CONV_2D, or DEPTHWISE_CONV_2D where every channel is a group; 1-d as height 1, 3-d by ``convolve_volume``."""
    shape, kernel = ctx.shape(0), ctx.shape(1)
    layout = image_layout(len(shape), ctx)
    group = ctx.attr("group", 1)
    if len(kernel) != len(shape) or kernel[1] * group != shape[1] or kernel[0] % group:
        raise ctx.refuse("group", f"{group} with weights {kernel} over {shape[1]} channels", "the weights do not fit")
    win = window(ctx, kernel[2:], shape[2:]).flat()
    image = ctx.input(0, layout).tensor
    filters = filters_tensor(ctx, depthwise=kernel[1] == 1 and group > 1, rank=len(shape))
    bias, late = split_bias(ctx, kernel[0], image)
    result = ctx.output(layout)
    target = result if late is None else ctx.temp(result, tag="product")
    fused = ctx.fused if late is None else "NONE"
    if len(shape) == 5:
        convolve_volume(ctx, image, filters, bias, win, group, target, fused=fused)
    else:
        convolve(ctx, image, filters, bias, win, target, fused=fused, depthwise=kernel[1] == 1 and group > 1)
    if late is not None:
        Steps(ctx).binary("ADD", target, late, result, fusedActivationFunction=ctx.fused)


def convolve(
    ctx: Lowering,
    image: Tensor,
    filters: Tensor,
    bias: Tensor,
    win: Window,
    result: Tensor,
    *,
    fused: str = "NONE",
    depthwise: bool = False,
) -> None:
    """One builtin over an NHWC image, padded first unless TFLite can say so itself.

    filters  [out, rows, columns, in a group], or [1, rows, columns, out] where ``depthwise``
    """
    same = win.is_same(image.shape[1:3])
    if not same:
        image = pad_image(ctx, image, win.pads)
    fields = {
        "padding": "SAME" if same else "VALID",
        "strideH": win.strides[0],
        "strideW": win.strides[1],
        "dilationHFactor": win.dilations[0],
        "dilationWFactor": win.dilations[1],
        "fusedActivationFunction": fused,
    }
    if depthwise:
        fields["depthMultiplier"] = filters.shape[3] // image.shape[3]
        ctx.emit("DEPTHWISE_CONV_2D", [image, filters, bias], [result], "DepthwiseConv2DOptions", **fields)
    else:
        ctx.emit("CONV_2D", [image, filters, bias], [result], "Conv2DOptions", **fields)


def convolve_volume(
    ctx: Lowering,
    image: Tensor,
    filters: Tensor,
    bias: Tensor,
    win: Window,
    group: int,
    result: Tensor,
    fused: str = "NONE",
) -> None:
    """A 3-d window as a 2-d one: its slices of depth are channels side by side.

    CONV_3D has no integer kernel and no groups, and in float this form is twice as fast.
    """
    moves = Moves(ctx)
    image = pad_image(ctx, image, (win.pads[0], (0, 0), (0, 0)))
    batch, _, rows, columns, channels = image.shape
    depth = result.shape[1]
    parts = []
    for tap in range(win.kernel[0]):
        begin = [0, tap * win.dilations[0], 0, 0, 0]
        part = moves.cut(image, begin, [batch, depth, rows, columns, channels], [1, win.strides[0], 1, 1, 1])
        parts.append(moves.reshape(part, [batch * depth, rows, columns, group, channels // group]))
    wide = moves.reshape(moves.join(parts, 4), [batch * depth, rows, columns, channels * win.kernel[0]])
    flat = Window(win.kernel[1:], win.strides[1:], win.dilations[1:], win.pads[1:])
    made = moves.temp(result, [batch * depth, *result.shape[2:]], result.dynamic, "planes")
    convolve(ctx, wide, filters, bias, flat, made, fused=fused)
    moves.reshape(made, result.shape, into=result)


def filters_tensor(ctx: Lowering, *, depthwise: bool, rank: int) -> Tensor:
    """The weights as TFLite's kernels read them; for 3-d [out, rows, columns, depth x in]."""
    order: Layout
    if rank == 5:
        order = (0, 3, 4, 2, 1)
    else:
        space = (NEW, 2) if rank == 3 else (2, 3)
        order = (1, *space, 0) if depthwise else (0, *space, 1)
    found = ctx.weights(1)
    if found is None:
        tensor = ctx.input(1, order).tensor
        if tensor.dynamic:
            raise ctx.refuse("W", "weights that follow the batch", "export with a fixed batch")
    else:
        array, quant = found
        turned = array.transpose([a for a in order if a != NEW])
        turned = turned.reshape([1 if a == NEW else array.shape[a] for a in order])
        if quant is not None and quant.axis is not None:
            quant = Quant(quant.scale, quant.zero_point, order.index(0))
        name = ctx.node.inputs[1].name if ctx.node.inputs[1] is not None else None
        tensor = weight_tensor(ctx, turned, quant, name or "weight", "convolution")
    if rank == 5:
        out, rows, columns, depth, inside = tensor.shape
        tensor = ctx.program.reshape(tensor, [out, rows, columns, depth * inside], frozenset())
    return tensor


def split_bias(ctx: Lowering, channels: int, source: Tensor) -> tuple[Tensor, Tensor | None]:
    """The bias, and one computed at run time that is added afterwards: XNNPACK wants constants."""
    found = ctx.weights(1)
    if ctx.has(2) and ctx.weights(2) is None:
        return ctx.number(np.zeros(channels)), ctx.plain(2)
    return bias_tensor(ctx, 2, channels, source, None if found is None else found[1]), None


def bias_tensor(ctx: Lowering, index: int, channels: int, source: Tensor, weight: Quant | None) -> Tensor:
    """The bias input, or zeros: float, or integers at input scale x weight scale, which the kernels take for granted.

    int32; int64 beside int16 activations, whose kernels then sum in 64 bits.
    """
    found = ctx.weights(index)
    name = (ctx.node.inputs[index].name if ctx.has(index) else None) or "bias"  # type: ignore[union-attr]
    if found is None and ctx.has(index):
        raise ctx.refuse("B", "bias computed at run time", "make it a constant")
    if weight is None or source.quant is None:
        return ctx.program.constant(np.zeros(channels, np.float32) if found is None else found[0], None, name)
    scale: Array = (source.quant.scale * weight.scale).astype(np.float32)
    quant = Quant(scale, np.zeros(scale.shape, np.int64), None if scale.ndim == 0 else 0)
    kind = np.int64 if source.quant.bits == 16 else np.int32
    if found is None:
        return ctx.program.constant(np.zeros(channels, kind), quant, name)
    if found[1] is not None and np.allclose(found[1].scale, scale, rtol=1e-6, atol=0):
        return ctx.program.constant(found[0].astype(kind), found[1], name)
    real = ctx.const(index)
    assert real is not None
    return ctx.program.constant(np.rint(real / scale.astype(np.float64)).astype(kind), quant, name)


def _symmetric_weights(node: ir.Node) -> bool:
    """Integer kernels take the weights as constants with a zero point of 0 only."""
    made = node.inputs[1].producer() if node.inputs[1] is not None else None
    stored = None if made is None else graph.constant(made.inputs[0])
    if made is None or stored is None:
        return False
    given = made.inputs[2] if len(made.inputs) > 2 else None
    zero = graph.constant(given)
    if zero is None:
        return given is None and stored.dtype != np.uint8
    return bool((zero.astype(np.int64) == (128 if stored.dtype == np.uint8 else 0)).all())


ROWS = (
    Op(
        "Conv",
        Free(),
        ("activation", "weight", "bias"),
        weight_axis=lambda node: 0,
        lower=widened(conv, REAL),
        fuses=True,
        types=REALS,
        int8_when=_symmetric_weights,
        int16=Free(),
    ),
)
