"""Decide (make_plan), then do (apply)."""

from __future__ import annotations

from exporter.quantize.plan import Observer, make_plan, minmax_range, planned_activations
from exporter.quantize.qdq import apply

__all__ = ["Observer", "apply", "make_plan", "minmax_range", "planned_activations"]
