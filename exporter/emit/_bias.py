"""A bias added to a matrix product is part of FULLY_CONNECTED: MatMul and Add become one Gemm, here of any rank."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph

__all__ = ["fuse_bias"]


def fuse_bias(model: ir.Model) -> None:
    """Edits a graph that only the emitter sees: a Gemm of more than two dimensions is not ONNX."""
    for node in list(model.graph):
        if node.op_type != "MatMul" or not _is_matrix(node.inputs[1]):
            continue
        add = graph.only_consumer(node.outputs[0])
        if add is None or add.op_type != "Add":
            continue
        other = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
        bias, columns, shape = graph.constant(other), _columns(node.inputs[1]), node.outputs[0].shape
        if bias is None or shape is None or len(shape) < 2 or bias.ndim > len(shape) or bias.size not in {1, columns}:
            continue
        if bias.size == columns and columns > 1 and bias.shape[-1] != columns:
            continue
        result = add.outputs[0]
        row = graph.add_initializer(
            model.graph,
            graph.fresh_name(model.graph, f"{result.name}/bias"),
            np.broadcast_to(bias.reshape(-1), (columns,)).copy(),
        )
        fused = ir.Node("", "Gemm", [*node.inputs, row], name=node.name)
        graph.replace(model.graph, [add, node], [fused])


def _is_matrix(value: ir.Value | None) -> bool:
    stored = graph.held(value)
    constant = None if stored is None or stored.is_graph_input() else stored.const_value
    return constant is not None and len(constant.shape) == 2


def _columns(value: ir.Value | None) -> int:
    stored = graph.held(value)
    assert stored is not None
    assert stored.const_value is not None
    return int(stored.const_value.shape[1])  # type: ignore[arg-type]
