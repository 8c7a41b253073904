"""Round each value to the closest integer of its grid, ties to even."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter import grid
from exporter.types import QParams

__all__ = ["nearest"]


def nearest(weight: npt.NDArray[np.float32], qparams: QParams) -> tuple[QParams, npt.NDArray[np.int32]]:
    """The plan's own scales."""
    return qparams, grid.quantize(weight, qparams)
