"""What is wrong with calibration data, said before anything is quantized with them."""

from __future__ import annotations

from exporter.linting.lint import lint
from exporter.linting.types import Finding

__all__ = ["Finding", "lint"]
