"""A histogram of fixed size over a range that grows as values arrive; one pass, constant memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BINS", "Histogram"]

BINS = 2048
_SAMPLED = 1 << 14  # values of a batch that go into the histogram; minimum and maximum see all of them


class Histogram:
    """Exact minimum, maximum and count; ``counts`` i64[BINS] of sampled values over [edge_low, edge_high]."""

    def __init__(self) -> None:
        self.low, self.high, self.count = np.inf, -np.inf, 0
        self.edge_low, self.edge_high = 0.0, 0.0
        self.counts: npt.NDArray[np.int64] = np.zeros(BINS, np.int64)

    def add(self, values: npt.NDArray[np.float32]) -> bool:
        """Take in an array of any shape; False when it holds NaN or infinity (and is then left out)."""
        flat = values.reshape(-1)
        low, high = float(flat.min()), float(flat.max())
        if not (np.isfinite(low) and np.isfinite(high)):  # numpy's min and max carry NaN
            return False
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.count += flat.size
        self._cover(self.low, self.high)
        # an odd step shares no factor with power-of-two dimensions, so every channel is sampled
        step = flat.size // _SAMPLED | 1
        width = (self.edge_high - self.edge_low) / BINS
        place = ((flat[::step] - np.float32(self.edge_low)) * np.float32(1 / width)).astype(np.int32)
        np.clip(place, 0, BINS - 1, out=place)
        self.counts += np.bincount(place, minlength=BINS)
        return True

    def _cover(self, low: float, high: float) -> None:
        """Widen by doubling, merging pairs of bins, so that no value is moved across a bin edge."""
        if self.edge_low == self.edge_high:
            middle, reach = (low + high) / 2, max((high - low) / 2, abs(high), 1e-30) * 1.05
            self.edge_low, self.edge_high = middle - reach, middle + reach
            return
        while low < self.edge_low or high > self.edge_high:
            width = self.edge_high - self.edge_low
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            if low < self.edge_low:
                self.counts[BINS // 2 :] = pairs
                self.edge_low -= width
            else:
                self.counts[: BINS // 2] = pairs
                self.edge_high += width
