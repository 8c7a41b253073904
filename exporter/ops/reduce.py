"""Reductions over axes."""

from __future__ import annotations

from exporter.ops.op import Float, Free, Op

__all__ = ["ROWS"]

_NO_INT = Float("no integer kernel in ONNX Runtime")

ROWS = (
    Op("ReduceMean", Free(), ("activation", "static")),
    Op("ReduceSum", _NO_INT, ("activation", "static")),
    Op("ReduceMax", _NO_INT, ("activation", "static")),
)
