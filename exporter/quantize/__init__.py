"""Decide (make_plan), then do (apply)."""

from __future__ import annotations

from exporter.quantize.plan import Observer, make_plan, minmax_range, planned_activations
from exporter.quantize.qdq import apply
from exporter.quantize.shared import aligned, shared_scales
from exporter.quantize.wishes import FLOAT_WEIGHTS

__all__ = [
    "FLOAT_WEIGHTS",
    "Observer",
    "aligned",
    "apply",
    "make_plan",
    "minmax_range",
    "planned_activations",
    "shared_scales",
]
