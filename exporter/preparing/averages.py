"""Promise: an AveragePool whose windows all count alike is a depthwise Conv, for int8.

Both runtimes requantize a convolution with the same formula. The sum of four integers is on a tie in a quarter of the
cases, and there QLinearAveragePool and TFLite's kernels part; the convolution is also the faster one in both.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.preparing.depthwise import replace_by_depthwise

__all__ = ["averages"]

_KEPT = ("strides", "pads", "dilations", "auto_pad")


def averages(model: ir.Model) -> None:
    """Weights of 1 / count, which every grid holds exactly: they are all the same."""
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type == "AveragePool" and node.domain == "" else None
        channels = (graph.shape_of(source) or (None, None))[1] if source is not None else None
        kernel = graph.attribute(node, "kernel_shape")
        if source is None or channels is None or not isinstance(kernel, tuple) or not _uniform(node):
            continue
        weight = np.full((channels, 1, *kernel), 1 / math.prod(kernel), np.float32)
        name = graph.fresh_name(model.graph, f"{node.outputs[0].name}_mean")
        kept = [node.attributes[a] for a in _KEPT if a in node.attributes]
        replace_by_depthwise(model.graph, node, {name: weight}, kept)


def _uniform(node: ir.Node) -> bool:
    """Does every window have the same number of places?"""
    pads = graph.attribute(node, "pads", ())
    automatic = graph.attribute(node, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"}
    padded = automatic or (isinstance(pads, tuple) and any(pads))
    counted = bool(graph.attribute(node, "count_include_pad", 0))
    return not graph.attribute(node, "ceil_mode", 0) and (counted or not padded)
