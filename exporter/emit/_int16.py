"""Linear layers over int16 activations, in forms that ONNX Runtime computes in float32.

ONNX Runtime 1.32 turns a MatMul or Gemm with dequantized constant weights into MatMulNBits, which quantizes what it
reads to int8 again: int16 activations would be int8 ones there, without a word. It leaves a Gemm with transB alone, and
a MatMul whose weights have three dimensions. Both say the same to whoever else reads the file.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter import graph

__all__ = ["keep_wide"]


def keep_wide(g: ir.Graph) -> None:
    """In place, after the weights have their places."""
    for node in list(g):
        if node.op_type not in {"Gemm", "MatMul"} or not _reads_int16(node.inputs[0]):
            continue
        maker = node.inputs[1].producer() if node.inputs[1] is not None else None
        if maker is None or maker.op_type != "DequantizeLinear" or _reads_int16(node.inputs[1]):
            continue
        source = node.inputs[0]
        rank = 0 if source is None or source.shape is None else len(source.shape)
        dequantize = _own(g, maker, node)
        if node.op_type == "MatMul" and rank != 2:
            _turn(g, dequantize, None)
        elif node.op_type == "MatMul" or not node.attributes.get_int("transB", 0):
            _turn(g, dequantize, (1, 0))
            _as_gemm(g, node)


def _reads_int16(value: ir.Value | None) -> bool:
    integers = graph.stored(value)
    return integers is not None and integers.dtype == ir.DataType.INT16


def _own(g: ir.Graph, dequantize: ir.Node, reader: ir.Node) -> ir.Node:
    """A DequantizeLinear that nobody else reads."""
    real = dequantize.outputs[0]
    if len(real.uses()) == 1:
        return dequantize
    made = ir.Value(name=graph.fresh_name(g, f"{real.name}_own"), shape=real.shape, type=real.type)
    attributes = list(dequantize.attributes.values())
    node = ir.Node("", "DequantizeLinear", list(dequantize.inputs), attributes, outputs=[made], name=made.name)
    g.insert_after(dequantize, node)
    reader.replace_input_with(1, made)
    return node


def _turn(g: ir.Graph, dequantize: ir.Node, order: tuple[int, int] | None) -> None:
    """The weights transposed; without an order, behind a dimension of 1. What is packed is turned when it is loaded."""
    stored, real = dequantize.inputs[0], dequantize.outputs[0]
    assert stored is not None
    assert stored.name is not None
    assert stored.shape is not None
    sizes = list(stored.shape)
    sizes = [1, *sizes] if order is None else [sizes[a] for a in order]
    axis = dequantize.attributes.get_int("axis", 1) % 2
    if (scale := dequantize.inputs[1]) is not None and scale.shape is not None and len(scale.shape):
        dequantize.attributes["axis"] = ir.AttrInt64("axis", axis + 1 if order is None else order.index(axis))
    real.shape = ir.Shape(sizes)
    array = graph.constant(stored)
    if array is not None and len(stored.uses()) == 1:
        turned = array[None] if order is None else np.ascontiguousarray(array.transpose(order))
        stored.const_value, stored.shape = ir.tensor(turned, name=stored.name), ir.Shape(sizes)
        return
    made = ir.Value(name=graph.fresh_name(g, f"{stored.name}_turned"), shape=ir.Shape(sizes), type=stored.type)
    if order is None:
        axes = graph.add_initializer(g, f"{made.name}_axes", np.zeros(1, np.int64))
        node = ir.Node("", "Unsqueeze", [stored, axes], outputs=[made], name=made.name)
    else:
        node = ir.Node("", "Transpose", [stored], [ir.AttrInt64s("perm", order)], outputs=[made], name=made.name)
    g.insert_before(dequantize, node)
    dequantize.replace_input_with(0, made)
    if array is None:  # whoever looks for the integers by name finds them as they are read
        made.name, stored.name = stored.name, made.name


def _as_gemm(g: ir.Graph, node: ir.Node) -> None:
    if node.op_type == "Gemm":
        node.attributes["transB"] = ir.AttrInt64("transB", 1)
        return
    made = ir.Node("", "Gemm", list(node.inputs), [ir.AttrInt64("transB", 1)], outputs=[ir.Value()], name=node.name)
    graph.replace(g, [node], [made])
