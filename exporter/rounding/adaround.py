"""AdaRound: learn for every weight whether to round it up or down.

Nagel et al. 2020: the error of the layer's output is e H e^T (eq. 13), each weight moves between its two neighbours by
a rectified sigmoid (eq. 23), and a regulariser drives it to one of them, sharper and sharper (eq. 24). As H is all that
the objective needs of the data, a layer is never run while its weights are learned.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from exporter import grid
from exporter.rounding.polish import polished
from exporter.types import Codebook, Scheme

__all__ = ["adaround"]

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
_STEPS = 600
_WARM = 0.2  # share of the steps without the regulariser
_RATE = 0.05
_WEIGHT = 0.02  # of the regulariser; the error is in units of one step of the average weight
_ZETA, _GAMMA = 1.1, -0.1  # stretch of the sigmoid (Louizos et al. 2018)
_SHARP, _BLUNT = 2.0, 20.0  # exponent of the regulariser at the end and at the start


def adaround(
    target: Doubles, covariance: Doubles, scale: Doubles, zero: Doubles, scheme: Scheme | Codebook
) -> npt.NDArray[np.int32]:
    """i32[G,rows,K]; the arguments are those of every layer rounder (see exporter.rounding.sequential)."""
    shape = target.shape
    steps, zeros = np.broadcast_to(scale, shape), np.broadcast_to(zero, shape).astype(np.int32)
    low, high = grid.neighbours(target.astype(np.float32), steps.astype(np.float32), zeros, scheme)
    below = (low - zeros) * steps - target
    gap = (high - low) * steps
    unit = np.maximum(np.sqrt(np.mean(np.square(gap), axis=2, keepdims=True)), 1e-30)  # of each row
    curve = np.diagonal(covariance, axis1=1, axis2=2).mean(axis=1)
    largest = np.abs(covariance).max(axis=(1, 2))  # of one sample rounding errors are all that is in it
    unit_curve = np.maximum(np.maximum(curve, largest / shape[2]), 1e-30)[:, None, None]
    hessian = (covariance / unit_curve).astype(np.float32)
    up = _optimise((below / unit).astype(np.float32), (gap / unit).astype(np.float32), hessian)
    return polished(np.where(up, high, low), target, covariance, scale, zero, scheme)


def _optimise(below: Floats, gap: Floats, hessian: Floats) -> npt.NDArray[np.bool_]:
    """Which weights go up, by Adam on the relaxed problem. below: error of rounding down; gap: what going up adds."""
    start = np.clip(-below / gap, 0.001, 0.999)
    ratio = (start - np.float32(_GAMMA)) / np.float32(_ZETA - _GAMMA)
    v = np.log(ratio / (1 - ratio)).astype(np.float32)
    mean, square = np.zeros_like(v), np.zeros_like(v)
    for step in range(_STEPS):
        sigmoid = 1 / (1 + np.exp(-v))
        stretched = sigmoid * np.float32(_ZETA - _GAMMA) + np.float32(_GAMMA)
        h = np.clip(stretched, 0, 1)
        slope = np.where((stretched > 0) & (stretched < 1), sigmoid * (1 - sigmoid) * np.float32(_ZETA - _GAMMA), 0)
        gradient = 2 * gap * np.matmul(below + gap * h, hessian)
        share = step / _STEPS
        if share > _WARM:
            left = (1 - share) / (1 - _WARM)
            beta = np.float32(_SHARP + (_BLUNT - _SHARP) * left)
            off = 2 * h - 1
            gradient -= np.float32(_WEIGHT) * 2 * beta * np.sign(off) * np.abs(off) ** (beta - 1)
        gradient *= slope
        mean = np.float32(0.9) * mean + np.float32(0.1) * gradient
        square = np.float32(0.999) * square + np.float32(0.001) * gradient * gradient
        rate = _RATE * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        v -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))
    return np.asarray(v > -np.log((_ZETA - 0.5) / (0.5 - _GAMMA)), np.bool_)
