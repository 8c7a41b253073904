"""Training samples: shuffled, augmented and held out by the seed alone, so that a resumed run sees the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.data import Dataset
from exporter.errors import DataError
from exporter.recipe import Finetune

__all__ = ["Batch", "Samples"]

_SHIFT = 8  # an image moves by at most one part in so many of its height and width


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """feeds: model-ready arrays by input name; labels: of the same samples, or None."""

    feeds: Mapping[str, npt.NDArray[Any]]
    labels: npt.NDArray[Any] | None

    def parts(self, size: int) -> Iterator[Batch]:
        count = len(next(iter(self.feeds.values())))
        for start in range(0, count, size):
            cut = slice(start, start + size)
            yield Batch({n: a[cut] for n, a in self.feeds.items()}, None if self.labels is None else self.labels[cut])

    def __len__(self) -> int:
        return len(next(iter(self.feeds.values())))


class Samples:
    """A data set in two parts: ``epoch`` goes through the first, ``held_out`` through the second."""

    def __init__(self, data: Dataset, wishes: Finetune, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(data.count)
        kept = max(1, round(data.count * wishes.held_out)) if wishes.held_out else 0
        if data.count - kept < 1:
            raise DataError(f"{data.where} holds {data.count} samples", "fine-tuning needs at least 2")
        self._data, self._wishes, self._seed = data, wishes, seed
        self._held, self._trained = np.sort(order[:kept]), np.sort(order[kept:])

    def steps(self) -> int:
        """Batches in an epoch."""
        return -(-len(self._trained) // self._wishes.batch_size)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Each training sample once, in an order of its own for each epoch."""
        generator = np.random.default_rng([self._seed, number])
        for batch in self._batches(generator.permutation(self._trained)):
            yield Batch(
                {n: _augmented(a, self._wishes.augment, generator) for n, a in batch.feeds.items()}, batch.labels
            )

    def held_out(self) -> Iterator[Batch]:
        """As they are; nothing where none are held out."""
        return self._batches(self._held)

    def _batches(self, order: npt.NDArray[np.int64]) -> Iterator[Batch]:
        labels, size = self._data.labels, self._wishes.batch_size
        for start in range(0, len(order), size):
            which = order[start : start + size]
            yield Batch(self._data.take(which), None if labels is None else labels[which])


def _augmented(array: npt.NDArray[Any], wanted: list[Any], generator: np.random.Generator) -> npt.NDArray[Any]:
    """Images only: arrays [N, C, H, W]."""
    if array.ndim != 4:
        return array
    if "flip" in wanted:
        turned = generator.random(len(array)) < 0.5
        array = np.where(turned[:, None, None, None], array[..., ::-1], array)
    if "shift" in wanted:
        array = _shifted(array, generator)
    return array


def _shifted(array: npt.NDArray[Any], generator: np.random.Generator) -> npt.NDArray[Any]:
    """Each image moved up, down, left or right; what comes in is 0."""
    height, width = array.shape[2:]
    most = height // _SHIFT, width // _SHIFT
    wide = np.pad(array, ((0, 0), (0, 0), (most[0], most[0]), (most[1], most[1])))
    rows, columns = (generator.integers(0, 2 * m + 1, len(array)) for m in most)
    return np.stack(
        [wide[i, :, r : r + height, c : c + width] for i, (r, c) in enumerate(zip(rows, columns, strict=True))]
    )
