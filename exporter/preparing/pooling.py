"""Promise: an average over a whole feature map is GlobalAveragePool (and Flatten if dimensions drop)."""

from __future__ import annotations

import onnx_ir as ir

from exporter import graph

__all__ = ["pooling"]


def pooling(model: ir.Model) -> None:
    """Both runtimes round GlobalAveragePool (MEAN) alike; windows of full size they round apart."""
    for node in list(model.graph):
        if node.op_type == "AveragePool" and _covers_all(node):
            _replace(model.graph, node, keep_dims=True)
        elif node.op_type == "ReduceMean":
            source = node.inputs[0]
            rank = len(source.shape) if source is not None and source.shape is not None else 0
            axes = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
            if (
                (rank >= 4 or (rank == 3 and _after_conv(source)))
                and axes is not None
                and sorted(int(a) % rank for a in axes) == list(range(2, rank))
            ):
                _replace(model.graph, node, keep_dims=bool(node.attributes.get_int("keepdims", 1)))


def _after_conv(value: ir.Value | None) -> bool:
    """A rank-3 tensor is a feature map over time only behind a convolution; in a transformer it is not."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "Conv":
            return True
        if node.op_type not in {"Relu", "Clip", "Add", "Mul", "LeakyRelu", "MaxPool", "BatchNormalization"}:
            return False
        value = node.inputs[0]
    return False


def _covers_all(node: ir.Node) -> bool:
    source = node.inputs[0]
    shape = graph.shape_of(source) if source is not None else None
    kernel = graph.attribute(node, "kernel_shape")
    pads = graph.attribute(node, "pads", (0,))
    return shape is not None and kernel == shape[2:] and not any(pads)  # type: ignore[arg-type]


def _replace(g: ir.Graph, node: ir.Node, *, keep_dims: bool) -> None:
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    assert source.shape is not None
    ones = ir.Shape([*source.shape[:2], *([1] * (len(source.shape) - 2))])
    pool = ir.Node("", "GlobalAveragePool", [source], outputs=[ir.Value(shape=ones, type=result.type)], name=node.name)
    nodes = [pool]
    if not keep_dims:
        pool.outputs[0].name = f"{result.name}_pooled"
        nodes.append(ir.Node("", "Flatten", pool.outputs, name=f"{node.name}/flatten"))
    graph.replace(g, [node], nodes)
