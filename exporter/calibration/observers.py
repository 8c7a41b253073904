"""From what calibration saw of a tensor to the range that its grid covers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from exporter import grid
from exporter.types import PerChannel, Scheme, TensorStats

__all__ = ["OBSERVERS"]

Observer = Callable[[TensorStats, Scheme], tuple[float, float]]
Floats = npt.NDArray[np.float64]
Loss = Callable[[Floats, Floats], Floats]  # of candidate ranges, low and high of the same shape

_KEPT = 0.9999
_FINEST = 10  # bits: steps of a finer grid are narrower than the histogram's bins, which cannot tell its rounding
_COARSE = np.geomspace(1.0, 2.0**-6, 49)
_FINE = np.geomspace(_COARSE[1], 1 / _COARSE[1], 15)  # from one coarse candidate to the next


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
    """The clipping whose expected squared error over the histogram is least.

    The error is that of the very grid which the range gives (Banner et al. 2019, eq. 4, with sums over the histogram
    in place of a fitted density); found by search.
    """
    if scheme.bits > _FINEST:
        return minmax(stats, scheme)
    each = replace(scheme, grain=PerChannel(0))  # one candidate is one channel
    n, start, spread = _uniform(stats)
    width = (stats.edge_high - stats.edge_low) / len(n)
    zeroth, first = (np.concatenate(([0.0], np.cumsum(part))) for part in (n, n * (start + spread / 2)))
    square = (n * (start * start + start * spread + spread * spread / 3)).sum()

    def error(low: Floats, high: Floats) -> Floats:
        """Squared rounding error of the histogram, by range: low and high [ranges] -> [ranges]."""
        q = grid.qparams_from_range(low, high, each)
        levels = np.arange(scheme.qmin, scheme.qmax + 1) - q.zero_point[:, None]
        values = levels * q.scale[:, None].astype(np.float64)
        step, twice = values[:, 1:] - values[:, :-1], values[:, 1:] + values[:, :-1]
        # what lies between two borders rounds to the level between them; running sums of n and n x up to each border
        place = np.clip((twice / 2 - stats.edge_low) / width, 0, len(n))
        whole = np.minimum(place.astype(np.intp), len(n) - 1)
        part = place - whole
        below = zeroth[whole] + part * n[whole]
        moment = first[whole] + part * n[whole] * (start[whole] + part * spread[whole] / 2)
        # the sum over levels v of n (x - v)^2, summed by parts
        last = values[:, -1]
        total = square - 2 * last * first[-1] + last * last * zeroth[-1]
        result: Floats = total + (step * (2 * moment - twice * below)).sum(axis=1)
        return result

    return _search(stats, scheme, error)


def entropy(stats: TensorStats, scheme: Scheme) -> tuple[float, float]:
    """The clipping whose quantized histogram keeps most information (Kullback-Leibler divergence).

    The method is that of Migacz, 8-bit inference with TensorRT (GTC 2017): what is clipped counts into the outermost
    bins of the reference only. A range narrower than one bin for each level is not considered.
    """
    levels = scheme.qmax - scheme.qmin + 1
    counts = stats.histogram.astype(np.float64)
    width, edge = (stats.edge_high - stats.edge_low) / len(counts), stats.edge_low
    zero = int(np.floor(-edge / width))
    if 0 <= zero < len(counts):
        counts[zero] = 0.0  # zero is exact on every grid; its mass says nothing about the clipping
    everything = counts.sum()
    if scheme.bits > _FINEST or not everything:
        return minmax(stats, scheme)
    mass, filled, self_information = (
        np.concatenate(([0.0], np.cumsum(part))) for part in (counts, counts > 0, counts * _log(counts))
    )

    def divergence(low: Floats, high: Floats) -> Floats:
        """KL divergence of the histogram from itself on a grid, by range: low and high [ranges] -> [ranges]."""
        first = np.clip(np.floor((low - edge) / width), 0, len(counts) - 1).astype(np.intp)
        last = np.clip(np.ceil((high - edge) / width), first + 1, len(counts)).astype(np.intp)
        # sum p log p - sum p log q with q constant over the filled bins of a group; both by differences of running sums
        groups = first[:, None] + (np.arange(levels + 1) * (last - first)[:, None]) // levels
        inside, members = np.diff(mass[groups], axis=1), np.diff(filled[groups], axis=1)
        kept = inside.sum(axis=1)
        log_q = _log(inside) - _log(members) - _log(kept)[:, None]
        total = self_information[last] - self_information[first] - (inside * log_q).sum(axis=1)
        for outside, bin_, group in ((mass[first], first, 0), (everything - mass[last], last - 1, -1)):
            held = counts[bin_]
            log_there = np.where(held > 0, log_q[:, group], -20.0)  # an empty bin: a very small share instead of none
            total += (held + outside) * _log(held + outside) - held * _log(held) - outside * log_there
        result: Floats = total / everything - np.log(everything)
        result[(last - first < min(levels, len(counts) // 8)) | (kept <= 0)] = np.inf
        return result

    return _search(stats, scheme, divergence)


OBSERVERS: Mapping[str, Observer] = {"minmax": minmax, "percentile": percentile, "mse": mse, "entropy": entropy}


def _edges(stats: TensorStats) -> Floats:
    return np.linspace(stats.edge_low, stats.edge_high, len(stats.histogram) + 1)


def _uniform(stats: TensorStats) -> tuple[Floats, Floats, Floats]:
    """Of each bin the number of values, where they start and how far they spread, evenly.

    Those in the bin of zero count as zero, which is on every grid and costs nothing.
    """
    edges = _edges(stats)
    start, spread = edges[:-1].copy(), np.diff(edges)
    zero = (edges[:-1] <= 0) & (edges[1:] > 0)
    start[zero] = spread[zero] = 0.0
    return stats.histogram.astype(np.float64), start, spread


def _log(values: Floats) -> Floats:
    return np.log(np.where(values > 0, values, 1.0))


def _search(stats: TensorStats, scheme: Scheme, loss: Loss) -> tuple[float, float]:
    """The best of many shares of the whole range: both ends together, then, unless symmetric, each in turn."""
    least, most = min(stats.low, 0.0), max(stats.high, 0.0)
    low, high = _best(least * _COARSE, most * _COARSE, loss)
    if scheme.symmetric:
        low, high = _best(low * _FINE, high * _FINE, loss)
    else:
        for _ in range(2):
            low, high = _best(low, most * _COARSE, loss)
            low, high = _best(least * _COARSE, high, loss)
        low, high = _best(low, high * _FINE, loss)
        low, high = _best(low * _FINE, high, loss)
    return max(low, least), min(high, most)


def _best(low: Floats | float, high: Floats | float, loss: Loss) -> tuple[float, float]:
    lows, highs = np.broadcast_arrays(low, high)
    place = int(np.argmin(loss(lows, highs)))
    return float(lows[place]), float(highs[place])
