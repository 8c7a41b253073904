"""Promise: a rank-2 MatMul by a constant, with or without a bias Add, is one Gemm; its bias has one dimension."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph

__all__ = ["gemm"]


def gemm(model: ir.Model) -> None:
    """ONNX Runtime has an integer kernel with bias for Gemm, not for MatMul and Add."""
    for node in list(model.graph):
        if node.op_type == "MatMul":
            _fuse_bias(model.graph, node)
        elif node.op_type == "Gemm":
            _flatten_bias(model.graph, node)


def _fuse_bias(g: ir.Graph, node: ir.Node) -> None:
    data, weight = node.inputs
    array = graph.constant(weight)
    if data is None or data.shape is None or len(data.shape) != 2 or array is None or array.ndim != 2:
        return
    add = graph.only_consumer(node.outputs[0])
    if add is None or add.op_type != "Add":
        return
    other = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
    bias = graph.constant(other)
    if other is None or bias is None or bias.shape not in {(array.shape[1],), (1, array.shape[1])}:
        return
    fused = ir.Node("", "Gemm", [data, weight, other], name=node.name)
    graph.replace(g, [add, node], [fused])
    _flatten_bias(g, fused)


def _flatten_bias(g: ir.Graph, node: ir.Node) -> None:
    bias = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    columns = node.outputs[0].shape[1] if node.outputs[0].shape is not None else None
    if bias is None or not isinstance(columns, int) or (bias.ndim == 1 and bias.shape[0] == columns):
        return
    if bias.ndim == 2 and bias.shape[0] != 1:
        return
    name = graph.fresh_name(g, f"{node.inputs[2].name}_flat")  # type: ignore[union-attr]
    flat = np.broadcast_to(bias.reshape(-1), (columns,)).copy()
    node.replace_input_with(2, graph.add_initializer(g, name, flat))
