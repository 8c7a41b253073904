"""Arithmetic on two or more tensors, with broadcasting."""

from __future__ import annotations

from exporter.ops.op import Float, Free, Op

__all__ = ["ROWS"]

_NO_INT = Float("no integer kernel in ONNX Runtime")

ROWS = (
    Op("Add", Free()),
    Op("Sub", Free()),
    Op("Mul", Free()),
    Op("Div", _NO_INT),
    Op("Pow", _NO_INT),
    Op("Min", _NO_INT),
    Op("Max", _NO_INT),
    Op("Where", _NO_INT, ("static", "activation", "activation")),
)
