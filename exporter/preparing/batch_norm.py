"""Promise: no BatchNormalization is left right behind a Conv, ConvTranspose or Gemm."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph

__all__ = ["batch_norm"]


def batch_norm(model: ir.Model) -> None:
    """Fold y = (conv(x) - mean) * gamma / sqrt(var + epsilon) + beta into weight and bias, in float64."""
    for node in list(model.graph):
        if node.op_type == "BatchNormalization" and len(node.outputs) == 1:
            numbers = [graph.constant(v) for v in node.inputs[1:5]]
            if any(n is None for n in numbers):
                continue
            gamma, beta, mean, variance = (np.asarray(n, np.float64) for n in numbers)
            scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
            _fold_into_producer(model.graph, node, scale, beta - mean * scale)


def _fold_into_producer(g: ir.Graph, node: ir.Node, scale: np.ndarray, shift: np.ndarray) -> None:
    source = node.inputs[0]
    producer = source.producer() if source is not None else None
    if source is None or producer is None or graph.only_consumer(source) is not node:
        return
    weight = graph.constant(producer.inputs[1]) if len(producer.inputs) > 1 else None
    if weight is None or producer.op_type not in {"Conv", "ConvTranspose", "Gemm"}:
        return
    axis, groups = _output_axis(producer), producer.attributes.get_int("group", 1)
    if producer.op_type == "ConvTranspose" and groups > 1:
        return
    shape = [1] * weight.ndim
    shape[axis] = -1
    bias_value = producer.inputs[2] if len(producer.inputs) > 2 else None
    bias = np.zeros(scale.shape) if bias_value is None else graph.constant(bias_value)
    if bias is None or (producer.op_type == "Gemm" and producer.attributes.get_float("beta", 1.0) != 1.0):
        return
    _set_input(g, producer, 1, np.asarray(weight, np.float64) * scale.reshape(shape))
    _set_input(g, producer, 2, np.asarray(bias, np.float64) * scale + shift)
    node.outputs[0].replace_all_uses_with(source, replace_graph_outputs=True)
    source.name = node.outputs[0].name
    g.remove(node, safe=True)


def _output_axis(node: ir.Node) -> int:
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1 if node.op_type == "ConvTranspose" else 0


def _set_input(g: ir.Graph, node: ir.Node, index: int, array: np.ndarray) -> None:
    old = node.inputs[index] if len(node.inputs) > index else None
    stem = (old.name if old is not None else None) or f"{node.name}.{'weight' if index == 1 else 'bias'}"
    value = graph.add_initializer(g, graph.fresh_name(g, f"{stem}_folded"), array.astype(np.float32))
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)
