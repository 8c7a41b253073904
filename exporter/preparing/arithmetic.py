"""Promise: constants are added and multiplied, not subtracted and divided; bounds are Clip; padding is in the Conv."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter.rules import common

from exporter import graph
from exporter.preparing.rewriting import rewrite

__all__ = ["arithmetic"]


def arithmetic(model: ir.Model) -> None:
    """x - c -> x + (-c), x / c -> x * (1 / c), Min and Max with scalars -> Clip, zero Pad -> Conv pads."""
    for node in list(model.graph):
        if node.op_type in {"Sub", "Div"}:
            _invert_constant(model.graph, node)
        elif node.op_type in {"Min", "Max"} and len(node.inputs) == 2:
            _to_clip(model.graph, node)
    rewrite(
        model,
        [
            common.fuse_pad_into_conv_rule,
            common.mul_by_1_rule,
            common.div_by_1_rule,
            common.add_0_rule,
            common.sub_0_rule,
            common.successive_relu_rule,
            common.successive_clip_rule,
            common.successive_clip_relu_rule,
            common.successive_relu_clip_rule,
        ],
    )


def _float_constant(value: ir.Value | None) -> np.ndarray | None:
    array = graph.constant(value)
    return array if array is not None and array.dtype == np.float32 else None


def _invert_constant(g: ir.Graph, node: ir.Node) -> None:
    array = _float_constant(node.inputs[1])
    if array is None or graph.constant(node.inputs[0]) is not None:
        return
    if node.op_type == "Div" and not (array != 0).all():
        return
    value = node.inputs[1]
    assert value is not None
    inverted = -array if node.op_type == "Sub" else (1.0 / array.astype(np.float64)).astype(np.float32)
    name = graph.fresh_name(g, f"{value.name}_{'negative' if node.op_type == 'Sub' else 'reciprocal'}")
    node.replace_input_with(1, graph.add_initializer(g, name, np.asarray(inverted)))
    node.op_type = "Add" if node.op_type == "Sub" else "Mul"


def _to_clip(g: ir.Graph, node: ir.Node) -> None:
    side = next((i for i in (0, 1) if (a := _float_constant(node.inputs[i])) is not None and a.size == 1), None)
    if side is None or graph.constant(node.inputs[1 - side]) is not None:
        return
    bound, data = node.inputs[side], node.inputs[1 - side]
    array = graph.constant(bound)
    assert bound is not None
    assert array is not None
    if len(bound.shape or ()) > len(data.shape or () if data is not None else ()):
        return
    name = graph.fresh_name(g, f"{bound.name}_bound")
    scalar = graph.add_initializer(g, name, np.asarray(array, np.float32).reshape(()))
    low, high = (scalar, None) if node.op_type == "Max" else (None, scalar)
    graph.replace(g, [node], [ir.Node("", "Clip", [data, low, high], name=node.name)])
