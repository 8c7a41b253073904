"""Medians, percentiles and their uncertainty from times that are neither independent nor steady."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["block_length", "interval", "knee", "percentiles", "ratio"]

_REPLICATES = 800
_MOST = 4000  # values of a launch that the bootstrap draws from; more are thinned evenly
# two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom, over the normal's 1.96
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
_NORMAL = 1.960


def interval(launches: Any, seed: int = 0) -> Any:
    """{"p50", "low", "high", "n"}: the median of all values and its 95 % interval.

    launches  one series a process, in the order in which it was taken

    A hierarchical bootstrap (Kalibera and Jones, "Rigorous benchmarking in reasonable time", 2013): processes are
    resampled, and in each of them moving blocks (Künsch 1989) as long as its values hang together, so that drift and
    phases count as what they are. The interval is the symmetric one (Hall, "On symmetric bootstrap confidence
    intervals", 1988): what bends the times to one side bends a percentile interval too far. Few processes say little
    about their spread: as in Student's t, the deviations are widened by t/1.96 and by sqrt(L / (L - 1)).
    """
    kept = [_thinned(series) for series in launches]
    median = float(np.median(np.concatenate([np.asarray(s, np.float64) for s in launches])))
    rng = np.random.default_rng(seed)
    found = np.empty(_REPLICATES)
    blocks = [block_length(series) for series in kept]
    for replicate in range(_REPLICATES):
        parts = [kept[i][_resample(rng, len(kept[i]), blocks[i])] for i in _choose(rng, len(kept))]
        found[replicate] = np.median(np.concatenate(parts))
    half = float(np.quantile(np.abs(found - median), 0.95)) * _widening(len(kept))
    return {
        "p50": median,
        "low": max(0.0, median - half),
        "high": median + half,
        "n": int(sum(len(s) for s in launches)),
    }


def ratio(first: Any, second: Any, seed: int = 0) -> Any:
    """{"ratio", "low", "high"} of the medians, first over second, of series that were taken in turn.

    Both are resampled at the same places, so that what met both cancels out.
    """
    pairs = [(_thinned(a), _thinned(b)) for a, b in zip(first, second)]
    rng = np.random.default_rng(seed)
    blocks = [max(block_length(a), block_length(b)) for a, b in pairs]
    logs = np.empty(_REPLICATES)
    for replicate in range(_REPLICATES):
        chosen = [(i, _resample(rng, min(map(len, pairs[i])), blocks[i])) for i in _choose(rng, len(pairs))]
        medians = [np.median(np.concatenate([pairs[i][side][places] for i, places in chosen])) for side in (0, 1)]
        logs[replicate] = np.log(medians[0] / medians[1])
    middle = float(np.log(np.median(np.concatenate(list(first))) / np.median(np.concatenate(list(second)))))
    half = float(np.quantile(np.abs(logs - middle), 0.95)) * _widening(len(pairs))
    return {
        "ratio": float(np.exp(middle)),
        "low": float(np.exp(middle - half)),
        "high": float(np.exp(middle + half)),
    }


def percentiles(launches: Any) -> Any:
    """{"p90": ms, …}: those beyond which at least ten of the values lie."""
    ordered = np.sort(np.concatenate([np.asarray(s, np.float64) for s in launches]))
    found = {}
    for name, share in (("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)):
        if len(ordered) * (1 - share) >= 10 - 1e-9:
            found[name] = float(ordered[int(share * len(ordered))])
    return found


def block_length(series: Any) -> int:
    """How many values in a row hang together: a few times their integrated autocorrelation time, of the ranks.

    At least the cube root of their number, at most a tenth of it.
    """
    values = np.asarray(series, np.float64)
    n = len(values)
    ranks = np.argsort(np.argsort(values)) - (n - 1) / 2.0
    power = np.abs(np.fft.rfft(ranks, 2 * n)) ** 2
    correlation = np.fft.irfft(power)[: n // 2 or 1]
    if correlation[0] <= 0:
        return 1
    correlation = correlation / correlation[0]
    sums = 1 + 2 * np.cumsum(correlation[1:])
    window = np.flatnonzero(np.arange(1, len(sums) + 1) >= 5 * sums)  # Sokal's rule for where to stop
    time = float(sums[window[0]]) if len(window) else float(sums[-1]) if len(sums) else 1.0
    return int(min(max(3 * time, n ** (1 / 3), 1), max(1, n // 10)))


def knee(at: Any, values: Any, most: float = 0.1) -> Any:
    """Index from which on the values stay more than ``most`` above those of the start; None when they never do.

    The place is where two constants describe the series best (least squares of the logarithms).
    """
    logs = np.log(np.asarray(values, np.float64))
    n = len(logs)
    if n < 10:
        return None
    total, squares = np.cumsum(logs), np.cumsum(logs**2)
    counts = np.arange(1, n)
    before = squares[:-1] - total[:-1] ** 2 / counts
    after = (squares[-1] - squares[:-1]) - (total[-1] - total[:-1]) ** 2 / (n - counts)
    cost = (before + after)[2:-2]
    place = int(cost.argmin()) + 3
    risen = np.median(logs[place:]) - np.median(logs[:place])
    return place if risen > np.log1p(most) else None


def _thinned(series: Any) -> Any:
    values = np.asarray(series, np.float64)
    return values if len(values) <= _MOST else values[np.linspace(0, len(values) - 1, _MOST).astype(int)]


def _choose(rng: Any, count: int) -> Any:
    return [0] if count == 1 else rng.integers(0, count, count)


def _resample(rng: Any, count: int, block: int) -> Any:
    """Places of a moving-block resample, as many as there are."""
    starts = rng.integers(0, count - block + 1, -(-count // block))
    return (starts[:, None] + np.arange(block)).ravel()[:count]


def _widening(launches: int) -> float:
    if launches < 2:
        return 1.0
    t = _T[launches - 2] if launches - 2 < len(_T) else _NORMAL * (1 + 1 / launches)
    return float(t / _NORMAL * np.sqrt(launches / (launches - 1)))
