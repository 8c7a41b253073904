"""Promise: HardSwish and HardSigmoid are written with operators that have integer kernels in both runtimes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph

__all__ = ["int8_forms"]


def int8_forms(model: ir.Model) -> None:
    """HardSwish(x) = x * Clip(x + 3, 0, 6) * 1/6; HardSigmoid(x) = Clip(x + beta/alpha, 0, 1/alpha) * alpha."""
    for node in list(model.graph):
        if node.op_type == "HardSwish":
            _write(model.graph, node, 1 / 6, 0.5, times_input=True)
        elif node.op_type == "HardSigmoid":
            alpha = node.attributes.get_float("alpha", 0.2)
            beta = node.attributes.get_float("beta", 0.5)
            follower = _times_own_input(node)
            if alpha > 0:
                _write(model.graph, node, alpha, beta, times_input=follower is not None, follower=follower)


def _times_own_input(node: ir.Node) -> ir.Node | None:
    reader = graph.only_consumer(node.outputs[0])
    if reader is not None and reader.op_type == "Mul" and node.inputs[0] in reader.inputs:
        return reader
    return None


def _write(
    g: ir.Graph, node: ir.Node, alpha: float, beta: float, *, times_input: bool, follower: ir.Node | None = None
) -> None:
    source = node.inputs[0]
    last_node = follower or node
    result = last_node.outputs[0]
    assert source is not None
    stem = graph.fresh_name(g, f"{result.name}_hard")

    def constant(tag: str, number: float) -> ir.Value:
        return graph.add_initializer(g, f"{stem}_{tag}", np.asarray(number, np.float32))

    def made(tag: str) -> ir.Value:
        return ir.Value(name=f"{stem}_{tag}", shape=source.shape, type=source.type)

    offset, top = constant("offset", beta / alpha), constant("top", 1 / alpha)
    nodes = [ir.Node("", "Add", [source, offset], outputs=[made("shifted")], name=f"{stem}/add")]
    bounds = [constant("zero", 0.0), top]
    nodes.append(ir.Node("", "Clip", [nodes[-1].outputs[0], *bounds], outputs=[made("clipped")], name=f"{stem}/clip"))
    if times_input:
        pair = [source, nodes[-1].outputs[0]]
        nodes.append(ir.Node("", "Mul", pair, outputs=[made("product")], name=f"{stem}/mul"))
    last = ir.Node(
        "", "Mul", [nodes[-1].outputs[0], constant("alpha", alpha)], outputs=[made("scaled")], name=f"{stem}/scale"
    )
    graph.replace(g, [last_node] if follower is None else [follower, node], [*nodes, last])
