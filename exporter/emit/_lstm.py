"""An LSTM with integer weights for ONNX Runtime: com.microsoft.DynamicQuantizeLSTM.

It quantizes the whole input, and in each step the state, to uint8 with one scale, multiplies integers and computes the
gates in float (onnxruntime/contrib_ops/cpu/quantization/dynamic_quantize_lstm.cc). GRU and RNN have no such kernel, and
steps written out take seven times as long as their float kernel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph

__all__ = ["LEAST_UNITS", "dynamic_lstm", "turned"]

LEAST_UNITS = 64  # with 48 it takes as long as the float kernel, with 32 a quarter longer, with 64 a fifth less
_PEEPHOLES = 7


def turned(integers: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """ONNX's [directions, gates x hidden, in] as the kernel has it: [directions, in, gates x hidden]."""
    return np.ascontiguousarray(integers.transpose(0, 2, 1))


def dynamic_lstm(
    g: ir.Graph, node: ir.Node, weights: tuple[ir.Value, ir.Value], scales: tuple[np.ndarray, np.ndarray]
) -> ir.Node:
    """The node to put in place of ``node``.

    weights  int8 W and R, turned        scales  their f32 numbers, which broadcast against [directions, gates x hidden]
    """
    given: list[ir.Value | None] = [*node.inputs, *[None] * (_PEEPHOLES + 1 - len(node.inputs))]
    given[1:3] = weights
    for weight, scale in zip(weights, scales, strict=True):
        shape, name = weight.shape, (weight.name or "weight").removesuffix("_integers")
        assert shape is not None
        rows = np.broadcast_to(np.asarray(scale, np.float32), (int(shape[0]), int(shape[2])))  # type: ignore[arg-type]
        given.append(graph.add_initializer(g, f"{name}_scale", np.ascontiguousarray(rows)))
        given.append(graph.add_initializer(g, f"{name}_zero_point", np.zeros(rows.shape, np.int8)))
    attributes = [a for key, a in node.attributes.items() if key != "layout"]
    outputs = [ir.Value(name=v.name, shape=v.shape, type=v.type) for v in node.outputs]
    return ir.Node(
        "com.microsoft", "DynamicQuantizeLSTM", given, attributes, outputs=outputs, name=graph.node_name(node)
    )
