"""Decide (make_plan), then do (apply)."""

from __future__ import annotations

from exporter.quantize.qdq import apply
from exporter.quantize.plan import Observer, make_plan, minmax_range

__all__ = ["Observer", "apply", "make_plan", "minmax_range"]
