"""One streaming pass over the calibration samples, and how a range is read off what it saw."""

from __future__ import annotations

from exporter.calibrate.observers import OBSERVERS
from exporter.calibrate.stream import calibrate

__all__ = ["OBSERVERS", "calibrate"]
