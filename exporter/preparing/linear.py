"""Promise: a MatMul of any rank by a constant matrix with a bias Add is one Gemm between two reshapes.

A Gemm keeps its bias at the precision of the sum; a MatMul and an Add would round twice, in two kernels.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph

__all__ = ["linear"]


def linear(model: ir.Model) -> None:
    """Where at most one leading dimension is dynamic: more cannot be written into a reshape."""
    flat: dict[int, ir.Value] = {}  # by the id of what was reshaped: readers of one activation share it
    for node in list(model.graph):
        if node.op_type == "MatMul":
            _as_gemm(model.graph, node, flat)


def _as_gemm(g: ir.Graph, node: ir.Node, flat: dict[int, ir.Value]) -> None:
    source, weight = node.inputs
    matrix, add = graph.constant(weight), graph.only_consumer(node.outputs[0])
    if source is None or source.shape is None or matrix is None or matrix.ndim != 2 or matrix.dtype != np.float32:
        return
    if len(source.shape) < 3 or add is None or add.op_type != "Add":
        return
    other = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
    bias, dims = graph.constant(other), list(source.shape)[:-1]
    depth, columns = matrix.shape
    if bias is None or bias.shape[-1:] != (columns,) or bias.size != columns or bias.ndim > len(source.shape):
        return
    if sum(not isinstance(d, int) for d in dims) > 1:
        return
    result = add.outputs[0]
    stem = graph.fresh_name(g, f"{result.name}_rows")
    sizes = [d if isinstance(d, int) else -1 for d in dims]
    rows = int(np.prod(sizes)) if -1 not in sizes else -1
    count = rows if rows >= 0 else None
    made = []
    if id(source) not in flat:
        shape = graph.add_initializer(g, f"{stem}_in", np.asarray([rows, depth], np.int64))
        before = ir.Value(name=f"{stem}_source", shape=ir.Shape([count, depth]), type=result.type)
        made.append(ir.Node("", "Reshape", [source, shape], outputs=[before], name=f"{stem}/in"))
        flat[id(source)] = before
    back = graph.add_initializer(g, f"{stem}_out", np.asarray([*sizes, columns], np.int64))
    row = other if bias.ndim == 1 else graph.add_initializer(g, f"{stem}_bias", bias.reshape(-1))
    after = ir.Value(name=f"{stem}_result", shape=ir.Shape([count, columns]), type=result.type)
    made += [
        ir.Node("", "Gemm", [flat[id(source)], weight, row], outputs=[after], name=node.name),
        ir.Node("", "Reshape", [after, back], name=f"{stem}/out"),
    ]
    graph.replace(g, [add, node], made, before=node)  # a reader of the reshaped source may stand before this Add
