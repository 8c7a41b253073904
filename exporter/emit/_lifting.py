"""Operators that pass quantized integers along (QOperator files) get the pairs that they have in a QDQ graph.

QuantizeLinear -> MaxPool -> DequantizeLinear becomes QuantizeLinear -> DequantizeLinear -> MaxPool -> QuantizeLinear ->
DequantizeLinear. Dequantizing and quantizing by the same scale changes no integer, and the emitter, which knows pairs,
writes the operator on integers with a scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from exporter.emit._pairs import alike
from exporter.ops import OPS, Same
from exporter.ops.expansion import rows_by_name
from exporter.ops.quantizing import plain_scale

__all__ = ["pair_integers"]

_INTEGERS = frozenset({ir.DataType.INT8, ir.DataType.UINT8})
_EDGES = frozenset({"QuantizeLinear", "DequantizeLinear"})


def pair_integers(model: ir.Model) -> bool:
    """Put pairs around every such operator whose integers have one known scale; True if there was any."""
    changed = False
    taken = {v.name for n in model.graph for v in n.outputs} | set(model.graph.initializers)
    for node in list(model.graph):
        row = rows_by_name(OPS, node)
        if node.op_type in _EDGES or row is None or not isinstance(row.int8, Same) or len(node.outputs) != 1:
            continue
        sources = [v for i, v in enumerate(node.inputs) if v is not None and row.role(i) == "activation"]
        makers = [v.producer() for v in sources]
        if not makers or any(m is None or m.op_type != "QuantizeLinear" or not plain_scale(m) for m in makers):
            continue
        first = makers[0]
        assert first is not None
        if _stored(first) in _INTEGERS and all(m is not None and alike(m, first) for m in makers):
            _lift(model.graph, node, first, taken)
            changed = True
    return changed


def _stored(quantizer: ir.Node) -> ir.DataType | None:
    """The type that it writes: its zero point's, known before inference knows its output's."""
    zero = quantizer.inputs[2] if len(quantizer.inputs) > 2 else None
    return quantizer.outputs[0].dtype if zero is None else zero.dtype


def _lift(g: ir.Graph, node: ir.Node, quantizer: ir.Node, taken: set[str | None]) -> None:
    numbers: Sequence[ir.Value | None] = quantizer.inputs[1:]
    kind = _stored(quantizer)
    row = rows_by_name(OPS, node)
    assert row is not None
    stored = node.outputs[0]
    for index, value in enumerate(node.inputs):
        if value is None or row.role(index) != "activation":
            continue
        real = _value(f"{value.name}/real", value.shape, ir.DataType.FLOAT, taken)
        g.insert_before(node, ir.Node("", "DequantizeLinear", [value, *numbers], outputs=[real], name=real.name))
        node.replace_input_with(index, real)
    integers = _value(f"{stored.name}/real", stored.shape, kind, taken)
    stored.replace_all_uses_with(integers, replace_graph_outputs=True)
    stored.type = ir.TensorType(ir.DataType.FLOAT)
    g.insert_after(node, ir.Node("", "QuantizeLinear", [stored, *numbers], outputs=[integers], name=integers.name))
    stored.name, integers.name = integers.name, stored.name


def _value(stem: str, shape: ir.Shape | None, kind: ir.DataType | None, taken: set[str | None]) -> ir.Value:
    name, count = stem, 0
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    taken.add(name)
    return ir.Value(name=name, shape=shape, type=None if kind is None else ir.TensorType(kind))
