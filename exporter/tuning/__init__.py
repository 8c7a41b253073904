"""The fix ladder: when a gate fails, remedies from the cheapest on, each measured, until one passes."""

from __future__ import annotations

from exporter.tuning.ladder import Receipt, Tuning, tune

__all__ = ["Receipt", "Tuning", "tune"]
