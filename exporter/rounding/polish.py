"""What a rounder of a layer ends with: its rows or nearest's, whichever are better, then moves of single weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter import grid
from exporter.types import Codebook, Scheme

__all__ = ["objective", "polished"]

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]
_SWEEPS = 4


def objective(error: Doubles, covariance: Doubles) -> Doubles:
    """[G,rows]: e H e^T, the mean squared error of a row's output."""
    found: Doubles = (np.matmul(error, covariance) * error).sum(axis=2)
    return found


def polished(
    integers: Integers, target: Doubles, covariance: Doubles, scale: Doubles, zero: Doubles, scheme: Scheme | Codebook
) -> Integers:
    """Never worse than nearest or than ``integers``, row by row: coordinate descent only takes steps that pay."""
    shape = target.shape
    steps, zeros = np.broadcast_to(scale, shape), np.broadcast_to(zero, shape).astype(np.int32)
    nearest = grid.round_to(target.astype(np.float32), steps.astype(np.float32), zeros, scheme)

    def error(values: Integers) -> Doubles:
        return (values - zeros) * steps - target

    better = objective(error(nearest), covariance) < objective(error(integers), covariance)
    found = np.where(better[:, :, None], nearest, integers)
    slope = np.matmul(error(found), covariance)
    curve = np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 1e-12)
    for _ in range(_SWEEPS):
        moved = False
        for j in range(shape[2]):
            real = (found[:, :, j] - zeros[:, :, j]) * steps[:, :, j]
            wanted = real - slope[:, :, j] / curve[:, j][:, None]
            best = grid.round_to(wanted.astype(np.float32), steps[:, :, j].astype(np.float32), zeros[:, :, j], scheme)
            change = (best - found[:, :, j]) * steps[:, :, j]
            # the change of e H e^T when one weight moves; float32 rounding must not let it rise
            gain = 2 * change * slope[:, :, j] + change * change * curve[:, j][:, None]
            change = np.where(gain < 0, change, 0.0)
            if change.any():
                moved = True
                found[:, :, j] = np.where(gain < 0, best, found[:, :, j])
                slope += change[:, :, None] * covariance[:, None, j, :]
        if not moved:
            break
    return found
