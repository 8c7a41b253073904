"""One streaming pass over the calibration samples, and how a range is read off what it saw."""

from __future__ import annotations

from exporter.calibration.observers import OBSERVERS
from exporter.calibration.stream import calibrate

__all__ = ["OBSERVERS", "calibrate"]
