"""Promise: a ConvTranspose over signals, or over images with one stride, is a Conv whose channels are spread, for int8.

No runtime has an integer ConvTranspose; a convolution whose channels are the phases (exporter.ops.phases) has one.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.ops.phases import Axis, axes_of, phases_of

__all__ = ["transposed"]

_CLAMPS = {"Relu", "Clip"}  # they fuse into the convolution, so they stay behind it


def transposed(model: ir.Model) -> None:
    """Conv, DepthToSpace (1-d: Reshape, Transpose, Reshape), and a Slice where the pads cut into a block."""
    for node in list(model.graph):
        if node.op_type == "ConvTranspose" and node.domain == "":
            axes = _axes(node)
            weight = graph.constant(node.inputs[1])
            if axes is not None and weight is not None:
                _write(model.graph, node, axes, weight)


def _axes(node: ir.Node) -> list[Axis] | None:
    """The spatial axes, where the rewriting holds; else None."""
    shapes = [graph.shape_of(v) if v is not None else None for v in (node.inputs[0], node.outputs[0])]
    weight = graph.constant(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or weight.ndim not in {3, 4} or (bias is not None and graph.constant(bias) is None):
        return None
    if (
        any(s is None or len(s) != weight.ndim or None in s[2:] for s in shapes)
        or graph.attribute(node, "group", 1) != 1
    ):
        return None
    sizes, out = ([n or 1 for n in (s or ())[2:]] for s in shapes)
    axes = axes_of(partial(graph.attribute, node), sizes, weight.shape[2:], out)
    same = axes[0].stride == axes[-1].stride > 1
    return axes if same and all(p >= 0 for a in axes for p in a.pads) else None


def _write(g: ir.Graph, node: ir.Node, axes: list[Axis], weight: npt.NDArray[np.generic]) -> None:
    stride = axes[0].stride
    source, result, last = node.inputs[0], node.outputs[0], node
    assert source is not None
    phases = phases_of(weight, axes, 1)
    kernel = np.concatenate([phases[p] for p in product(range(stride), repeat=len(axes))])
    stem = graph.fresh_name(g, f"{result.name}_phases")
    named = node.inputs[1].name if node.inputs[1] is not None else stem
    inputs = [source, graph.add_initializer(g, graph.fresh_name(g, f"{named}_phases"), kernel)]
    bias = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None:
        inputs.append(graph.add_initializer(g, f"{stem}_bias", np.tile(bias, stride ** len(axes))))
    pads = [p for side in (0, 1) for p in (axis.pads[side] for axis in axes)]
    batch = source.shape[0] if source.shape is not None else None
    blocks = [axis.blocks[1] - axis.blocks[0] + 1 for axis in axes]
    channels = weight.shape[1]
    deep = ir.Shape([batch, channels * stride ** len(axes), *blocks])

    def made(kind: str, values: list[ir.Value], shape: ir.Shape, **attributes: str | int | list[int]) -> ir.Value:
        name = graph.fresh_name(g, f"{stem}/{kind.lower()}")
        output = ir.Value(name=name, type=source.type, shape=shape)
        new = ir.Node("", kind, values, ir.convenience.convert_attributes(attributes), outputs=[output], name=name)
        g.insert_before(node, new)
        return output

    value = made("Conv", inputs, deep, kernel_shape=list(kernel.shape[2:]), pads=pads)
    follower = graph.only_consumer(result)
    if follower is not None and follower.op_type in _CLAMPS and follower.inputs[0] is result:
        bounds = [v for v in follower.inputs[1:] if v is not None]
        if len(bounds) == len(follower.inputs) - 1 and all(graph.constant(v) is not None for v in bounds):
            value = made(follower.op_type, [value, *bounds], deep)
            result, last = follower.outputs[0], follower
    wide = ir.Shape([batch, channels, *(n * stride for n in blocks)])
    if len(axes) == 2:
        value = made("DepthToSpace", [value], wide, blocksize=stride, mode="DCR")
    else:
        apart, turned = ir.Shape([batch, stride, channels, *blocks]), ir.Shape([batch, channels, *blocks, stride])
        sizes = [[0, *apart[1:]], [0, *wide[1:]]]
        first, last_shape = (
            graph.add_initializer(g, f"{stem}_{tag}", np.asarray(n, np.int64))
            for tag, n in zip(("apart", "joined"), sizes, strict=True)
        )
        value = made("Transpose", [made("Reshape", [value, first], apart)], turned, perm=[0, 2, 3, 1])
        value = made("Reshape", [value, last_shape], wide)
    if any(map(any, (axis.crop for axis in axes))):
        begin = [axis.crop[0] for axis in axes]
        end = [b + axis.out for b, axis in zip(begin, axes, strict=True)]
        numbers = [
            graph.add_initializer(g, f"{stem}_{tag}", np.asarray(n, np.int64))
            for tag, n in (("begin", begin), ("end", end), ("axes", list(range(2, 2 + len(axes)))))
        ]
        value = made("Slice", [value, *numbers], ir.Shape([batch, channels, *(axis.out for axis in axes)]))
    graph.take_over(value, result)
    g.remove([last, node] if last is not node else node, safe=True)
