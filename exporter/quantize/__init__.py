"""Decide (make_plan), then do (apply)."""

from __future__ import annotations

from exporter.quantize.plan import Observer, make_plan, minmax_range, planned_activations
from exporter.quantize.qdq import apply
from exporter.quantize.wishes import FLOAT_WEIGHTS

__all__ = ["FLOAT_WEIGHTS", "Observer", "apply", "make_plan", "minmax_range", "planned_activations"]
