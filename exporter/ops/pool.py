"""Pooling over windows and whole feature maps."""

from __future__ import annotations

from exporter.ops.op import Free, Op, Same

__all__ = ["ROWS"]

ROWS = (
    Op("MaxPool", Same()),
    Op("AveragePool", Same()),
    Op("GlobalMaxPool", Same()),
    Op("GlobalAveragePool", Free()),
)
