"""HQQ: half-quadratic quantization, from the weight alone.

Badri and Shaji 2023: minimise |W - dequantize(quantize(W))|_p with p < 1, so that a few large weights do not stretch
the grid for all others. Two steps in turn: shrink the error (their eq. 4, a generalised soft threshold), then refit.
The paper refits a real zero point; fast kernels want an integer, so here it is rounded and the scale refitted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from exporter import grid
from exporter.types import PerChannel, PerGroup, QParams, Scheme

__all__ = ["hqq"]

Floats = npt.NDArray[np.float32]
_NORM = 0.7  # p, as in their code
_BETA, _GROWTH = 10.0, 1.01
_ROUNDS = 20


def hqq(weight: Floats, qparams: QParams) -> tuple[QParams, npt.NDArray[np.int32]]:
    """Never above the plan's own scales in the norm p."""
    grain = qparams.scheme.grain
    rows = grid.grouped(weight, grain).astype(np.float32)
    each = replace(qparams.scheme, grain=PerChannel(0))
    best = QParams(each, qparams.scale.reshape(-1), qparams.zero_point.reshape(-1))
    least = _norm(rows, best)
    start = grid.qparams_of_least_error(weight, qparams.scheme)
    q = QParams(each, start.scale.reshape(-1), start.zero_point.reshape(-1))
    unit = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-30)
    beta = _BETA
    for _ in range(_ROUNDS):
        norm = _norm(rows, q)
        better = norm < least
        least = np.where(better, norm, least)
        scale, zero = np.where(better, q.scale, best.scale), np.where(better, q.zero_point, best.zero_point)
        best = QParams(each, scale, zero)
        integers = grid.quantize(rows, q)
        error = (rows - grid.dequantize(integers, q)) / unit
        kept = np.sign(error) * np.maximum(np.abs(error) - np.abs(error + 1e-8) ** (_NORM - 1) / beta, 0) * unit
        q = _refitted(rows - kept, integers, q, rounded=isinstance(grain, PerGroup))
        beta *= _GROWTH
    found = QParams(qparams.scheme, best.scale.reshape(start.scale.shape), best.zero_point.reshape(start.scale.shape))
    return found, grid.quantize(weight, found)


def _refitted(goal: Floats, integers: npt.NDArray[np.int32], q: QParams, *, rounded: bool) -> QParams:
    """Scale, and for an asymmetric scheme zero point, of least squares from these integers to the goal."""
    levels = integers.astype(np.float64)
    zero = q.zero_point
    if isinstance(q.scheme, Scheme) and not q.scheme.symmetric:
        shift = (levels - goal / q.scale[:, None]).mean(axis=1)
        zero = np.clip(np.rint(shift), q.scheme.qmin, q.scheme.qmax).astype(np.int32)
    centred = levels - zero[:, None]
    power = np.square(centred).sum(axis=1)
    fitted = (centred * goal).sum(axis=1) / np.maximum(power, 1e-30)
    scale = np.where((power > 0) & (fitted > 0), fitted, q.scale).astype(np.float32)
    return QParams(q.scheme, grid.of_groups(scale) if rounded else scale, zero)


def _norm(rows: Floats, q: QParams) -> npt.NDArray[np.float64]:
    error = np.abs(grid.dequantize(grid.quantize(rows, q), q) - rows).astype(np.float64)
    return np.asarray((error**_NORM).sum(axis=1))
