"""From the name of a width in the recipe to the grid of one weight."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from exporter import grid
from exporter.types import Codebook, Grain, QParams, Scheme

__all__ = ["initial_qparams", "weight_scheme"]

_SYMMETRIC_FROM = 4  # bits
_TOP = 127  # a level of 1 in int8
_ROUNDS = 40  # of Lloyd's algorithm


def weight_scheme(name: str, array: npt.NDArray[np.float32], grain: Grain, symmetric: bool | None) -> Scheme | Codebook:
    """The scheme of a weight; a k-means codebook is fitted to ``array``.

    symmetric  None: so from 4 bits on, where the zero point buys next to nothing. Weights of 8 bits are symmetric
               whatever it says, as kernels require
    """
    match name:
        case "binary":
            return Codebook(name, (-1, 1), grain)
        case "ternary":
            return Codebook(name, (-1, 0, 1), grain)
    if name.startswith("nf"):
        return Codebook(name, _levels(_normal_float(int(name.removeprefix("nf")))), grain)
    if name.startswith("kmeans"):
        return Codebook(name, _kmeans(array, grain, int(name.removeprefix("kmeans"))), grain)
    bits = int(name.removeprefix("int"))
    wanted = bits >= _SYMMETRIC_FROM if symmetric is None else symmetric
    return Scheme(bits, symmetric=bits == 8 or wanted, grain=grain)


def initial_qparams(array: npt.NDArray[np.float32], scheme: Scheme | Codebook) -> tuple[QParams, str]:
    """Scale and zero point before rounding, and where they come from."""
    if scheme.bits <= 2 or (isinstance(scheme, Codebook) and len(scheme.levels) <= 4):
        return grid.qparams_of_least_error(array, scheme), "least squared error"
    return grid.range_of(array, scheme), "range"


def _levels(shares: npt.NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(int(v) for v in np.unique(np.rint(shares * _TOP).astype(int)))


def _normal_float(bits: int) -> npt.NDArray[np.float64]:
    """Quantiles of a normal distribution with an exact zero, over [-1, 1] (Dettmers et al. 2023, QLoRA, appendix E)."""
    quantile, half = NormalDist().inv_cdf, 1 << (bits - 1)
    positive = [quantile(p) for p in np.linspace(0.9677083, 0.5, half + 1)[:-1]]
    negative = [-quantile(p) for p in np.linspace(0.9677083, 0.5, half)[:-1]]
    return np.array([*negative, 0.0, *reversed(positive)]) / positive[0]


def _kmeans(array: npt.NDArray[np.float32], grain: Grain, bits: int) -> tuple[int, ...]:
    """Lloyd's algorithm from the quantiles of a normal distribution (Han et al. 2016, section 3).

    It runs on the values divided by the largest magnitude of their group, each weighted by the square of that.
    """
    rows = grid.grouped(array, grain).astype(np.float64)
    top = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-30)
    values, weights = (rows / top).reshape(-1), np.broadcast_to(top * top, rows.shape).reshape(-1)
    step = max(values.size >> 20, 1)
    order = np.argsort(values[::step])
    values, weights = values[::step][order], weights[::step][order]
    mass, moment = (np.concatenate(([0.0], np.cumsum(part))) for part in (weights, weights * values))
    centres = _normal_float(bits)
    for _ in range(_ROUNDS):
        borders = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        ends = np.concatenate(([0], borders, [values.size]))
        held = np.diff(mass[ends])
        centres = np.where(held > 0, np.diff(moment[ends]) / np.maximum(held, 1e-300), centres)
    levels = _levels(centres)
    return levels if len(levels) > 1 else (-_TOP, _TOP)
