"""A histogram of fixed size over a range that grows as values arrive; one pass, constant memory."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from exporter.types import TensorStats

__all__ = ["BINS", "Histogram"]

BINS = 2048
_DENSE = 1 << 17  # values that all go into the histogram; after them, every step-th of the stream
_PER_SAMPLE = 1 << 10  # about so many values of one sample from then on
_FLAT = 2.0**-12  # least width of the histogram as a share of the largest magnitude
_TINY = 2.0**-100
_MOST = 1 << 62  # merging more bins than there are leaves one on either side of zero, whatever the factor

Float32 = npt.NDArray[np.float32]


class Histogram:
    """Exact extremes and number of values; ``counts`` i64[BINS], bin i covers [first + i, first + i + 1) * width.

    ``width`` is the least power of two for which the range fits, so that bins only ever merge in whole and the product
    value / width is exact in float32: what comes out does not depend on the order or size of the batches.
    Values that stand for ``step`` of their kind are counted as that many.
    """

    def __init__(self) -> None:
        self.low, self.high, self.count = math.inf, -math.inf, 0
        self.width, self.first = 0.0, 0
        self.counts: npt.NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.channel_low: Float32 | None = None
        self.channel_high: Float32 | None = None
        self._step = 0

    def add(self, values: Float32) -> bool:
        """Take in the tensor of one batch, samples along axis 0; False when it holds NaN or infinity."""
        if not values.size:
            return True
        low, high = _channels(values)
        least, most = float(low.min()), float(high.max())
        if not (math.isfinite(least) and math.isfinite(most)):  # numpy's min and max carry NaN
            return False
        self._keep_channels(low, high)
        if least < self.low or most > self.high:
            self.low, self.high = min(self.low, least), max(self.high, most)
            self._cover()
        flat = values.reshape(-1)
        if not self._step:
            # an odd step shares no factor with power-of-two dimensions, so every channel is sampled
            self._step = flat.size // max(len(values) if values.ndim else 1, 1) // _PER_SAMPLE | 1
        dense = min(max(_DENSE - self.count, 0), flat.size)
        if dense:
            self._place(flat[:dense], 1)
        if dense < flat.size:
            start = dense + (_DENSE - self.count - dense) % self._step
            self._place(flat[start :: self._step], self._step)
        self.count += flat.size
        return True

    def stats(self) -> TensorStats:
        """What was seen so far; at least one value must have been."""
        edge_low, edge_high = self.first * self.width, (self.first + BINS) * self.width
        ranges = (self.channel_low, self.channel_high)
        return TensorStats(self.low, self.high, self.count, self.counts, edge_low, edge_high, *ranges)

    def _place(self, values: Float32, weight: int) -> None:
        place = values * np.float32(1 / self.width)
        np.floor(place, out=place)
        place -= np.float32(self.first)
        found = np.bincount(place.astype(np.intp), minlength=BINS)
        self.counts += found if weight == 1 else found * weight

    def _cover(self) -> None:
        """Merge bins until [low, high] fits, then let the first one hold ``low``."""
        width, first = _grid(self.low, self.high)
        if self.width:
            ratio = min(round(width / self.width), _MOST)
            new = (self.first + np.arange(BINS)) // ratio - first
            held = self.counts > 0  # empty bins may lie beyond the new window
            counts = np.zeros(BINS, np.int64)
            np.add.at(counts, new[held], self.counts[held])
            self.counts = counts
        self.width, self.first = width, first

    def _keep_channels(self, low: Float32, high: Float32) -> None:
        if not self.count:
            self.channel_low, self.channel_high = (low, high) if low.ndim else (None, None)
        elif self.channel_low is not None and self.channel_high is not None:
            if low.shape != self.channel_low.shape:  # a dynamic dimension, so no channel axis
                self.channel_low = self.channel_high = None
            else:
                np.minimum(self.channel_low, low, out=self.channel_low)
                np.maximum(self.channel_high, high, out=self.channel_high)


def _channels(values: Float32) -> tuple[Float32, Float32]:
    """Extremes of each channel: axis 1 of rank 4 and more, else the last axis; of the whole below rank 2."""
    if values.ndim < 2:
        return values.min(), values.max()
    if values.ndim < 4:
        flat = values.reshape(-1, values.shape[-1])
        return flat.min(0), flat.max(0)
    rows = values.reshape(len(values), values.shape[1], -1)
    return rows.min(0).min(1), rows.max(0).max(1)  # samples first: the fast direction for numpy


def _grid(low: float, high: float) -> tuple[float, int]:
    """Width and index of the first bin; a wider range never gives narrower bins."""
    least = max(high - low, _FLAT * max(abs(low), abs(high)), _TINY) / BINS
    width = 2.0 ** math.ceil(math.log2(least))
    while math.floor(high / width) - math.floor(low / width) >= BINS:
        width *= 2
    return width, math.floor(low / width)
