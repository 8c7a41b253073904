"""From what calibration saw of a tensor to the range that its grid covers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from exporter.types import Scheme, TensorStats

__all__ = ["OBSERVERS"]

Observer = Callable[[TensorStats, Scheme], tuple[float, float]]
_KEPT = 0.9999
_CANDIDATES = 64


def minmax(stats: TensorStats, scheme: Scheme) -> tuple[float, float]:
    """The whole range."""
    return stats.low, stats.high


def percentile(stats: TensorStats, scheme: Scheme) -> tuple[float, float]:
    """Without the outermost 0.005 % on either side."""
    share = np.cumsum(stats.histogram) / stats.histogram.sum()
    edges = _edges(stats)
    tail = (1 - _KEPT) / 2
    low = edges[int(np.searchsorted(share, tail))]
    high = edges[int(np.searchsorted(share, 1 - tail)) + 1]
    return max(stats.low, float(low)), min(stats.high, float(high))


def mse(stats: TensorStats, scheme: Scheme) -> tuple[float, float]:
    """The clipping whose expected squared error over the histogram is least (Banner et al. 2019, eq. 4, by search)."""
    return _search(stats, lambda low, high: _squared_error(stats, scheme, low, high))


def entropy(stats: TensorStats, scheme: Scheme) -> tuple[float, float]:
    """The clipping whose quantized histogram keeps most information (Kullback-Leibler; Migacz, TensorRT int8, 2017)."""
    levels = scheme.qmax - scheme.qmin + 1
    return _search(stats, lambda low, high: _divergence(stats, levels, low, high))


OBSERVERS: Mapping[str, Observer] = {"minmax": minmax, "percentile": percentile, "mse": mse, "entropy": entropy}


def _edges(stats: TensorStats) -> npt.NDArray[np.float64]:
    return np.linspace(stats.edge_low, stats.edge_high, len(stats.histogram) + 1)


def _search(stats: TensorStats, loss: Callable[[float, float], float]) -> tuple[float, float]:
    """Shrink each end in turn from the full range; a range that ends at 0 keeps that end."""
    low, high = min(stats.low, 0.0), max(stats.high, 0.0)
    for _ in range(2):
        for side in ("high", "low"):
            full = high if side == "high" else low
            if full == 0.0:
                continue
            ends = full * np.linspace(1.0, 0.2, _CANDIDATES)
            losses = [loss(low, e) if side == "high" else loss(e, high) for e in ends]
            best = float(ends[int(np.argmin(losses))])
            low, high = (low, best) if side == "high" else (best, high)
    return low, high


def _squared_error(stats: TensorStats, scheme: Scheme, low: float, high: float) -> float:
    edges = _edges(stats)
    centre = (edges[:-1] + edges[1:]) / 2
    step = max((high - low) / (scheme.qmax - scheme.qmin), 1e-30)
    outside = centre - np.clip(centre, low, high)
    error = np.where(outside == 0, step * step / 12, outside * outside)
    # an exact zero is on the grid and costs nothing
    zero = int(np.clip(np.searchsorted(edges, 0.0) - 1, 0, len(centre) - 1))
    error[zero] = 0.0
    return float((error * stats.histogram).sum())


def _divergence(stats: TensorStats, levels: int, low: float, high: float) -> float:
    edges = _edges(stats)
    first = int(np.searchsorted(edges, low, side="right")) - 1
    last = max(int(np.searchsorted(edges, high, side="left")), first + 1)
    first = max(first, 0)
    inside = stats.histogram[first:last].astype(np.float64)
    reference = inside.copy()
    reference[0] += stats.histogram[:first].sum()
    reference[-1] += stats.histogram[last:].sum()
    zero = int(np.searchsorted(edges, 0.0, side="right")) - 1 - first
    if 0 <= zero < len(inside):  # zero is exact on every grid; its mass says nothing about the clipping
        inside[zero] = reference[zero] = 0.0
    if not inside.any():
        return float("inf")
    group = np.minimum((np.arange(len(inside)) * levels) // len(inside), levels - 1)
    filled = inside > 0
    totals = np.bincount(group, inside, levels)
    members = np.bincount(group, filled, levels)
    quantized = np.where(filled, totals[group] / np.maximum(members[group], 1), 0.0)
    p, q = reference / reference.sum(), quantized / max(quantized.sum(), 1e-30)
    both = (p > 0) & (q > 0)
    missing = p[(p > 0) & (q <= 0)].sum()
    return float((p[both] * np.log(p[both] / q[both])).sum() + missing * 20.0)
