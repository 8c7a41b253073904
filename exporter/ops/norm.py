"""Normalisations."""

from __future__ import annotations

from exporter.ops.op import Float, Op

__all__ = ["ROWS"]

_NO_INT = Float("no integer kernel in ONNX Runtime")

ROWS = (
    Op("LayerNormalization", _NO_INT, ("activation", "static", "static")),
    Op("BatchNormalization", Float("not folded into a convolution"), ("activation", "static")),
)
