"""A QuantizeLinear and the DequantizeLinear behind it, seen as one."""

from __future__ import annotations

import onnx_ir as ir

from exporter import graph

__all__ = ["alike", "edges", "maker"]


def edges(value: ir.Value) -> list[ir.Node]:
    """The QuantizeLinear and DequantizeLinear that alone read a value; [] where others do."""
    readers = graph.consumers(value)
    behind = graph.consumers(readers[0].outputs[0]) if len(readers) == 1 else []
    found = [*readers, *behind]
    return found if [n.op_type for n in found] == ["QuantizeLinear", "DequantizeLinear"] else []


def maker(value: ir.Value | None, kind: str) -> ir.Node | None:
    """The node of this kind that makes a value, also through a pair of one scale."""
    node = value.producer() if value is not None else None
    if node is not None and node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
        quantizer = node.inputs[0].producer()
        if quantizer is None or quantizer.op_type != "QuantizeLinear" or not alike(quantizer, node):
            return None
        node = quantizer.inputs[0].producer() if quantizer.inputs[0] is not None else None
    return node if node is not None and node.op_type == kind and node.domain == "" else None


def alike(one: ir.Node, other: ir.Node) -> bool:
    """Have the two quantizers and dequantizers the same scale and zero point?"""
    return len(one.inputs) == len(other.inputs) and all(
        _equal(a, b) for a, b in zip(one.inputs[1:], other.inputs[1:], strict=True)
    )


def _equal(a: ir.Value | None, b: ir.Value | None) -> bool:
    first, second = graph.constant(a), graph.constant(b)
    return first is not None and second is not None and first.tobytes() == second.tobytes()
