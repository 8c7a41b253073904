"""Promise: no AveragePool counts padding while its last windows hang over the input (ceil_mode).

What hangs over never counts. ONNX Runtime's QLinearAveragePool (1.32) divides by the whole window all the same once
count_include_pad is set, so that a pool of integers came out up to a half too small. Without padding count_include_pad
says nothing and goes; padding becomes a Pad of its own, whose zeros count as input.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ceilings import Axis, axes_of

__all__ = ["overhang"]


def overhang(model: ir.Model) -> None:
    """A ceil_mode that rounds nothing up goes too. Where sizes are open and there is padding the node is left."""
    for node in list(model.graph):
        if node.op_type != "AveragePool" or not node.attributes.get_int("ceil_mode", 0):
            continue
        if graph.attribute(node, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
            continue
        axes = axes_of(node)
        padded = any(graph.attribute(node, "pads", (0,)))  # type: ignore[arg-type]
        if axes and all(axis.over <= 0 for axis in axes):
            node.attributes.pop("ceil_mode")
        elif node.attributes.get_int("count_include_pad", 0) and (
            not padded or (axes and all(_stays(axis) for axis in axes))
        ):
            node.attributes.pop("count_include_pad")
            if padded:
                _pad_apart(model.graph, node, axes)


def _padding(axis: Axis) -> int:
    """At the end, without what no window reads."""
    return max(axis.high + min(axis.over, 0), 0)


def _stays(axis: Axis) -> bool:
    """Are there as many windows once the padding is input?"""
    whole = axis.size + axis.low + _padding(axis)
    return replace(axis, size=whole, low=0, high=0).windows == axis.windows


def _pad_apart(g: ir.Graph, node: ir.Node, axes: list[Axis]) -> None:
    source = node.inputs[0]
    assert source is not None
    assert source.shape is not None
    name = graph.fresh_name(g, f"{source.name}_padded")
    pads = np.array([0, 0, *(axis.low for axis in axes), 0, 0, *(_padding(axis) for axis in axes)], np.int64)
    sizes = [axis.size + axis.low + _padding(axis) for axis in axes]
    padded = ir.Value(name=name, shape=ir.Shape([*source.shape[:2], *sizes]), type=source.type)
    around = graph.add_initializer(g, f"{name}_pads", pads)
    g.insert_before(node, [ir.Node("", "Pad", [source, around], outputs=[padded], name=f"{name}/pad")])
    node.replace_input_with(0, padded)
    node.attributes.pop("pads")
