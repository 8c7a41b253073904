"""Promise: a BatchNormalization that no layer took in is a depthwise Conv of one place, for int8.

As in DenseNet, where it stands before its layer. Multiplied and added apart, both runtimes would do it in float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph

__all__ = ["lone_norms"]


def lone_norms(model: ir.Model) -> None:
    """y = x * gamma / sqrt(var + epsilon) + ..., one weight and one bias to a channel; of maps with 1 to 3 axes.

    Not of the model's own input: one scale for channels that nothing has made alike yet would lose the small ones.
    """
    for node in list(model.graph):
        if node.op_type != "BatchNormalization" or node.domain != "" or len(node.outputs) != 1:
            continue
        numbers = [graph.constant(v) for v in node.inputs[1:5]]
        source, old = node.inputs[0], node.outputs[0]
        rank = len(source.shape) if source is not None and source.shape is not None else 0
        if source is None or source.producer() is None or rank not in {3, 4, 5} or any(n is None for n in numbers):
            continue
        gamma, beta, mean, variance = (np.asarray(n, np.float64) for n in numbers)
        scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        name = graph.fresh_name(model.graph, f"{old.name}_norm")
        weight = scale.reshape(-1, 1, *[1] * (rank - 2)).astype(np.float32)
        bias = (beta - mean * scale).astype(np.float32)
        constants = [
            graph.add_initializer(model.graph, f"{name}_{tag}", array)
            for tag, array in (("weight", weight), ("bias", bias))
        ]
        made = ir.Node(
            "",
            "Conv",
            [source, *constants],
            [ir.AttrInt64("group", len(scale)), ir.AttrInt64s("kernel_shape", [1] * (rank - 2))],
            outputs=[ir.Value(shape=old.shape, type=old.type)],
            name=node.name,
        )
        model.graph.insert_before(node, made)
        new = made.outputs[0]
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        new.name, old.name = old.name, None
