"""Promise: no MaxPool, move or Concat keeps a rectifier or BatchNormalization from a layer that would take it in.

The greatest of what a growing function gives is what it gives for the greatest: the numbers are the same. A rectifier
apart is one more pass over the map, and in int8 one more rounding.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph

__all__ = ["fusible"]

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "BatchNormalization"})
_MOVES = frozenset({"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"})


def fusible(model: ir.Model) -> None:
    """Only where nobody else reads between them."""
    for node in list(model.graph):
        if node.domain != "" or len(node.outputs) != 1 or not _grows(node):
            continue
        between = _between(node)
        if between:
            _move_before(model.graph, node, between)
        elif node.op_type != "BatchNormalization" and (concat := _concat_of_layers(node)) is not None:
            _spread(model.graph, node, concat)


def _grows(node: ir.Node) -> bool:
    """Relu; Clip from zero on, which fuses; BatchNormalization that turns no channel around."""
    if node.op_type == "Relu":
        return True
    if node.op_type == "Clip" and len(node.inputs) > 1:
        low = graph.constant(node.inputs[1])
        high = graph.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.ones(())
        return low is not None and low.item() == 0 and high is not None and high.item() >= 0
    if node.op_type == "BatchNormalization":
        gamma = graph.constant(node.inputs[1])
        return gamma is not None and bool(np.all(np.asarray(gamma) > 0))
    return False


def _between(node: ir.Node) -> list[ir.Node]:
    """From the node upwards to a layer, all that may trade places with it; empty where there is no such layer."""
    chain: list[ir.Node] = []
    reader = node
    while (value := reader.inputs[0]) is not None and graph.only_consumer(value) is reader:
        maker = value.producer()
        if maker is None or maker.domain != "":
            return []
        if maker.op_type in _LAYERS:
            return chain
        moves = maker.op_type in _MOVES and node.op_type != "BatchNormalization"
        if not moves and not (maker.op_type == "MaxPool" and _always_full(maker)):
            return []
        chain.append(maker)
        reader = maker
    return []


def _always_full(pool: ir.Node) -> bool:
    """Does every window hold a value that is no padding, and does nobody ask where the greatest was?"""
    kernel, pads = graph.attribute(pool, "kernel_shape"), graph.attribute(pool, "pads", ())
    assert isinstance(kernel, tuple)
    assert isinstance(pads, tuple)
    spread = any(d != 1 for d in pool.attributes.get_ints("dilations", [])) or graph.attribute(pool, "ceil_mode", 0)
    return len(pool.outputs) == 1 and not spread and all(p < k for p, k in zip(pads, (*kernel, *kernel), strict=False))


def _move_before(g: ir.Graph, node: ir.Node, between: list[ir.Node]) -> None:
    last, source, result = between[0].outputs[0], between[-1].inputs[0], node.outputs[0]
    assert source is not None
    result.replace_all_uses_with(last, replace_graph_outputs=True)
    node.replace_input_with(0, source)
    between[-1].replace_input_with(0, result)
    g.remove(node)
    g.insert_before(between[-1], node)
    last.name, result.name = result.name, last.name
    last.shape, result.shape = result.shape or last.shape, source.shape


def _concat_of_layers(node: ir.Node) -> ir.Node | None:
    source = node.inputs[0]
    maker = source.producer() if source is not None else None
    if source is None or maker is None or maker.op_type != "Concat" or graph.only_consumer(source) is not node:
        return None
    for value in maker.inputs:
        layer = value.producer() if value is not None else None
        if value is None or layer is None or layer.op_type not in _LAYERS or graph.only_consumer(value) is not maker:
            return None
    return maker


def _spread(g: ir.Graph, node: ir.Node, concat: ir.Node) -> None:
    """One rectifier for each part."""
    joined, result = concat.outputs[0], node.outputs[0]
    for index, value in enumerate(concat.inputs):
        if value is None or graph.only_consumer(value) is not concat:  # the same part twice: it is rectified by now
            continue
        name = graph.fresh_name(g, f"{value.name}_part")
        made = ir.Value(name=name, shape=value.shape, type=value.type)
        part = ir.Node(
            "", node.op_type, [value, *node.inputs[1:]], list(node.attributes.values()), outputs=[made],
            name=f"{node.name}/{index}",
        )  # fmt: skip
        g.insert_before(concat, part)
        for place, other in enumerate(concat.inputs):
            if other is value:
                concat.replace_input_with(place, made)
    graph.take_over(joined, result)
    g.remove(node, safe=True)
