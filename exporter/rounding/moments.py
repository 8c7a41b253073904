"""First and second moments of what a layer reads, in the quantized network and in the float one, streamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Moments", "sums"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Over the positions of one batch: x and f f64[G,K], x x^T and f x^T f32[G,K,K]."""

    count: int
    own: Doubles
    float: Doubles
    square: npt.NDArray[Any]
    cross: npt.NDArray[Any]


def sums(x: Floats, f: Floats) -> Sums:
    """Of columns f32[G, positions, K] of one batch, at the same positions."""
    x, f = np.ascontiguousarray(x), np.ascontiguousarray(f)
    square, cross = np.matmul(x.swapaxes(1, 2), x), np.matmul(f.swapaxes(1, 2), x)
    return Sums(x.shape[1], x.sum(axis=1, dtype=np.float64), f.sum(axis=1, dtype=np.float64), square, cross)


class Moments:
    """Of columns x (quantized network) and f (float network): f64, with the groups of the layer as the first axis.

    mean [G,K], float_mean [G,K]; covariance [G,K,K] of x, and cross [G,K,K]: that of f with x. Where nothing makes up
    for the mean (``centred`` False: a layer without bias) both are E x x^T and E f x^T: an error of the mean counts.
    """

    def __init__(self, *, centred: bool = True) -> None:
        self.count = 0
        self._centred = centred
        self._sum: Doubles | float = 0.0
        self._float_sum: Doubles | float = 0.0
        self._square: Doubles | float = 0.0
        self._cross: Doubles | float = 0.0

    def add(self, part: Sums) -> None:
        """What ``sums`` gives for one batch."""
        self.count += part.count
        self._sum = self._sum + part.own
        self._float_sum = self._float_sum + part.float
        self._square = self._square + part.square
        self._cross = self._cross + part.cross

    @property
    def mean(self) -> Doubles:
        return np.asarray(self._sum / self.count)

    @property
    def float_mean(self) -> Doubles:
        return np.asarray(self._float_sum / self.count)

    @property
    def covariance(self) -> Doubles:
        return self._about(self._square, self.mean)

    @property
    def cross(self) -> Doubles:
        return self._about(self._cross, self.float_mean)

    def _about(self, total: Doubles | float, mean: Doubles) -> Doubles:
        found = np.asarray(total / self.count)
        return found - mean[:, :, None] * self.mean[:, None, :] if self._centred else found
