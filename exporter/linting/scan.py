"""One pass over the samples of a dataset, in bounded memory: what the checks look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.data import Dataset

__all__ = ["Scan", "scan"]

_ROWS = 32  # samples at a time
_LOOKED_AT = 256  # samples whose neighbouring pixels are compared


@dataclass(frozen=True, slots=True)
class Scan:
    """digests: of each sample as the model gets it. constant: samples that are one number throughout.

    mean, std, top  of the float inputs after preprocessing: over all values, and the largest magnitude
    near, far       of a float input [N,C,H,W] with 2 to 4 channels: correlation of values next to each other in a row,
                    and of those C apart; None where there is no such input
    """

    digests: tuple[bytes, ...]
    constant: tuple[int, ...]
    mean: float
    std: float
    top: float
    near: float | None
    far: float | None


def scan(dataset: Dataset, progress: Callable[[int], None] = lambda done: None) -> Scan:
    """``progress`` is called with the number of samples seen."""
    digests: list[bytes] = []
    constant: list[int] = []
    count, total, square, top = 0, 0.0, 0.0, 0.0
    pairs = {1: np.zeros(6), 0: np.zeros(6)}
    for batch in dataset.batches(_ROWS):
        flat = True
        for place in range(len(next(iter(batch.values())))):
            sample = [np.ascontiguousarray(array[place]) for array in batch.values()]
            digests.append(_digest(sample))
            if any(a.size > 1 for a in sample) and all(map(_is_flat, sample)):
                constant.append(len(digests) - 1)
        for array in batch.values():
            if array.dtype != np.float32:
                continue
            count += array.size
            total += float(array.sum(dtype=np.float64))
            square += float(np.square(array, dtype=np.float64).sum())
            top = max(top, float(np.abs(array).max(initial=0.0)))
            channels = array.shape[1] if array.ndim == 4 else 0
            if flat and 2 <= channels <= 4 and array.shape[3] > channels and len(digests) <= _LOOKED_AT:
                pairs[1] += _products(array, 1)
                pairs[0] += _products(array, channels)
                flat = False
        progress(len(digests))
    mean = total / max(count, 1)
    std = float(np.sqrt(max(square / max(count, 1) - mean * mean, 0.0)))
    return Scan(tuple(digests), tuple(constant), mean, std, top, _correlation(pairs[1]), _correlation(pairs[0]))


def _is_flat(sample: npt.NDArray[Any]) -> bool:
    """One number throughout, or throughout each channel, as normalisation leaves a blank image."""
    if sample.ndim < 3:
        return bool(sample.size) and sample.min() == sample.max()
    rows = (sample.reshape(sample.shape[0], -1), sample.reshape(-1, sample.shape[-1]).T)
    return any(bool((part.min(axis=1) == part.max(axis=1)).all()) for part in rows)


def _digest(arrays: list[npt.NDArray[Any]]) -> bytes:
    found = blake2b(digest_size=16)
    for array in arrays:
        found.update(array.tobytes())
    return found.digest()


def _products(array: npt.NDArray[np.float32], apart: int) -> npt.NDArray[np.float64]:
    x, y = array[..., :-apart].astype(np.float64), array[..., apart:].astype(np.float64)
    return np.array([x.size, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])


def _correlation(sums: npt.NDArray[np.float64]) -> float | None:
    n, x, y, xx, yy, xy = sums
    if not n:
        return None
    spread = np.sqrt(max(xx / n - (x / n) ** 2, 0.0) * max(yy / n - (y / n) ** 2, 0.0))
    return float((xy / n - x * y / n / n) / spread) if spread > 1e-12 else 1.0
