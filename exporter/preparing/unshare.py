"""Promise: a bias is read by one node; a weight by nodes that agree on its channel axis."""

from __future__ import annotations

import onnx_ir as ir

from exporter import graph
from exporter.ops import OPS

__all__ = ["unshare"]


def unshare(model: ir.Model) -> None:
    """Give each further reader its own copy of a constant that it would quantize in another way."""
    for value in list(model.graph.initializers.values()):
        uses = list(value.uses())
        if len(uses) < 2 or value.dtype != ir.DataType.FLOAT:
            continue
        seen: set[object] = set()
        for use in uses:
            key = _reading(use.node, use.idx, value)
            if seen and (key not in seen or key == "bias"):
                tensor = value.const_value
                assert tensor is not None
                name = graph.fresh_name(model.graph, f"{value.name}_copy")
                copy = graph.add_initializer(model.graph, name, tensor.numpy())
                use.node.replace_input_with(use.idx, copy)
            else:
                seen.add(key)


def _reading(node: ir.Node, index: int, value: ir.Value) -> object:
    """How this use would quantize the constant: uses with the same answer may share it."""
    if node.op_type == "Gather" and index == 0 and graph.attribute(node, "axis", 0) == 0:
        return "weight", 0  # a table whose rows are also the outputs of a tied layer
    row = OPS.get(node.op_type)
    role = row.role(index) if row is not None else "static"
    if role != "weight" or row is None or row.weight_axis is None:
        return role
    rank = len(value.shape) if value.shape is not None else 1
    return role, row.weight_axis(node) % max(rank, 1)
