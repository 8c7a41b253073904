"""Promise: no AveragePool counts padding while its last windows hang over the input (ceil_mode).

What hangs over never counts. ONNX Runtime's QLinearAveragePool (1.32) divides by the whole window all the same once
count_include_pad is set, so that a pool of integers came out up to a half too small. Without padding count_include_pad
says nothing and goes; padding becomes a Pad of its own, whose zeros count as input.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from exporter import graph

__all__ = ["overhang"]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One spatial axis of a pool: the input's size, the reach of a window, pads."""

    size: int
    reach: int
    stride: int
    low: int
    high: int

    @property
    def over(self) -> int:
        """Places of the last window behind input and padding; less than 0: places that no window reads."""
        made = _windows(self.size, self.reach, self.stride, self.low, self.high)
        return (made - 1) * self.stride + self.reach - self.size - self.low - self.high

    @property
    def padding(self) -> int:
        """At the end, without what no window reads."""
        return max(self.high + min(self.over, 0), 0)

    @property
    def same(self) -> bool:
        """Are there as many windows once the padding is input?"""
        whole = self.size + self.low + self.padding
        kept = _windows(self.size, self.reach, self.stride, self.low, self.high)
        return _windows(whole, self.reach, self.stride, 0, 0) == kept


def _windows(size: int, reach: int, stride: int, low: int, high: int) -> int:
    """With ceil_mode; one that would begin behind the input is none (onnx, AveragePool; torch)."""
    count = -(-(size + low + high - reach) // stride) + 1
    return count - ((count - 1) * stride >= size + low)


def overhang(model: ir.Model) -> None:
    """A ceil_mode that rounds nothing up goes too. Where sizes are open and there is padding the node is left."""
    for node in list(model.graph):
        if node.op_type != "AveragePool" or not node.attributes.get_int("ceil_mode", 0):
            continue
        if graph.attribute(node, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
            continue
        axes = _axes(node)
        padded = any(graph.attribute(node, "pads", (0,)))  # type: ignore[arg-type]
        if axes and all(axis.over <= 0 for axis in axes):
            node.attributes.pop("ceil_mode")
        elif node.attributes.get_int("count_include_pad", 0) and (
            not padded or (axes and all(axis.same for axis in axes))
        ):
            node.attributes.pop("count_include_pad")
            if padded:
                _pad_apart(model.graph, node, axes)


def _axes(node: ir.Node) -> list[_Axis]:
    """None of them where sizes are open."""
    source = node.inputs[0]
    sizes = None if source is None else graph.shape_of(source)
    if sizes is None or None in sizes[2:]:
        return []
    said: Any = partial(graph.attribute, node)
    kernel = said("kernel_shape")
    strides, dilations = (said(key, (1,) * len(kernel)) for key in ("strides", "dilations"))
    pads = said("pads", (0,) * 2 * len(kernel))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    rows: Any = zip(sizes[2:], reach, strides, pads[: len(kernel)], pads[len(kernel) :], strict=True)
    return [_Axis(*row) for row in rows]


def _pad_apart(g: ir.Graph, node: ir.Node, axes: list[_Axis]) -> None:
    source = node.inputs[0]
    assert source is not None
    assert source.shape is not None
    name = graph.fresh_name(g, f"{source.name}_padded")
    pads = np.array([0, 0, *(axis.low for axis in axes), 0, 0, *(axis.padding for axis in axes)], np.int64)
    sizes = [axis.size + axis.low + axis.padding for axis in axes]
    padded = ir.Value(name=name, shape=ir.Shape([*source.shape[:2], *sizes]), type=source.type)
    around = graph.add_initializer(g, f"{name}_pads", pads)
    g.insert_before(node, [ir.Node("", "Pad", [source, around], outputs=[padded], name=f"{name}/pad")])
    node.replace_input_with(0, padded)
    node.attributes.pop("pads")
