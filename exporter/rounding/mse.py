"""Clip each group of weights where the squared error is least, then round to nearest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter import grid
from exporter.types import QParams

__all__ = ["mse"]


def mse(weight: npt.NDArray[np.float32], qparams: QParams) -> tuple[QParams, npt.NDArray[np.int32]]:
    """Scales from a search over clipping thresholds (Banner et al. 2019, eq. 4, by search); never above nearest's."""
    found = grid.qparams_of_least_error(weight, qparams.scheme)
    return found, grid.quantize(weight, found)
