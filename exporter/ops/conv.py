"""Convolutions."""

from __future__ import annotations

from exporter.ops.op import Float, Free, Op

__all__ = ["ROWS"]

ROWS = (
    Op("Conv", Free(), ("activation", "weight", "bias"), weight_axis=lambda node: 0),
    Op("ConvTranspose", Float("ONNX Runtime has no integer ConvTranspose"), ("activation", "weight", "bias")),
)
