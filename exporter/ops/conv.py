"""Convolutions."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import Array, Lowering, Quant, Tensor
from exporter.ops.op import Float, Free, Op
from exporter.ops.windows import image_layout, pad_image, window

__all__ = ["ROWS", "bias_tensor"]


def conv(ctx: Lowering) -> None:
    """CONV_2D, or DEPTHWISE_CONV_2D when every input channel is its own group; 1-d as height 1."""
    shape = ctx.shape(0)
    layout = image_layout(len(shape), ctx)
    found = ctx.weights(1)
    if found is None:
        raise ctx.refuse("W", "weights computed at run time", "make them constants")
    weight, quant = found
    if weight.ndim == 3:
        weight = weight[:, :, None, :]
    group = ctx.attr("group", 1)
    win = window(ctx, weight.shape[4 - (len(shape) - 2) :], shape[2:])
    image = ctx.input(0, layout).tensor
    if win.padded:
        image = pad_image(ctx, image, win)
    depthwise = group == shape[1] and group > 1
    order = (1, 2, 3, 0) if depthwise and weight.shape[1] == 1 else (0, 2, 3, 1)
    if depthwise and weight.shape[1] != 1:
        raise ctx.refuse("group", f"{group} with weights {weight.shape}", "the weight's shape does not fit")
    channel_axis = order.index(0)
    turned = (
        None if quant is None else Quant(quant.scale, quant.zero_point, None if quant.axis is None else channel_axis)
    )
    name = ctx.node.inputs[1].name if ctx.node.inputs[1] is not None else None
    filters = ctx.program.constant(weight.transpose(order), turned, name or "weight")
    bias = bias_tensor(ctx, 2, weight.shape[0], image, quant)
    result = ctx.output(layout)
    fields = {
        "padding": "SAME" if win.same else "VALID",
        "strideH": win.strides[0],
        "strideW": win.strides[1],
        "dilationHFactor": win.dilations[0],
        "dilationWFactor": win.dilations[1],
        "fusedActivationFunction": ctx.fused,
    }
    if depthwise:
        fields["depthMultiplier"] = weight.shape[0] // group
        ctx.emit("DEPTHWISE_CONV_2D", [image, filters, bias], [result], "DepthwiseConv2DOptions", **fields)
    else:
        ctx.emit("CONV_2D", [image, filters, bias], [result], "Conv2DOptions", **fields)


def bias_tensor(ctx: Lowering, index: int, channels: int, source: Tensor, weight: Quant | None) -> Tensor:
    """The bias input, or zeros: float, or int32 at input scale x weight scale."""
    found = ctx.weights(index)
    name = (ctx.node.inputs[index].name if ctx.has(index) else None) or "bias"  # type: ignore[union-attr]
    if found is not None:
        return ctx.program.constant(found[0], found[1], name)
    if ctx.has(index):
        raise ctx.refuse("B", "bias computed at run time", "make it a constant")
    if weight is None or source.quant is None:
        return ctx.program.constant(np.zeros(channels, np.float32), None, name)
    scale: Array = (source.quant.scale * weight.scale).astype(np.float32)
    quant = Quant(scale, np.zeros(scale.shape, np.int64), None if scale.ndim == 0 else 0)
    return ctx.program.constant(np.zeros(channels, np.int32), quant, name)


ROWS = (
    Op("Conv", Free(), ("activation", "weight", "bias"), weight_axis=lambda node: 0, lower=conv, fuses=True),
    Op("ConvTranspose", Float("ONNX Runtime has no integer ConvTranspose"), ("activation", "weight", "bias")),
)
