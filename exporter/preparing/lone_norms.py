"""Promise: a BatchNormalization that no layer took in is a depthwise Conv of one place, for int8.

As in DenseNet, where it stands before its layer. Multiplied and added apart, both runtimes would do it in float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.preparing.batch_norm import scale_and_shift
from exporter.preparing.depthwise import replace_by_depthwise

__all__ = ["lone_norms"]


def lone_norms(model: ir.Model) -> None:
    """y = x * gamma / sqrt(var + epsilon) + ..., one weight and one bias to a channel; of maps with 1 to 3 axes.

    Not of the model's own input: one scale for channels that nothing has made alike yet would lose the small ones.
    """
    for node in list(model.graph):
        if node.op_type != "BatchNormalization" or node.domain != "":
            continue
        source, numbers = node.inputs[0], scale_and_shift(node)
        rank = len(source.shape) if source is not None and source.shape is not None else 0
        if source is None or source.producer() is None or rank not in {3, 4, 5} or numbers is None:
            continue
        scale, shift = (each.astype(np.float32) for each in numbers)
        name, ones = graph.fresh_name(model.graph, f"{node.outputs[0].name}_norm"), [1] * (rank - 2)
        constants = {f"{name}_weight": scale.reshape(-1, 1, *ones), f"{name}_bias": shift}
        replace_by_depthwise(model.graph, node, constants, [ir.AttrInt64s("kernel_shape", ones)])
