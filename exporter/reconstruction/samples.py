"""What a block reads and what it should make of it, in steps of a few samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Sample", "Samples"]

Array = npt.NDArray[Any]
_HELD_OUT = 8  # one sample in so many


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One or more of them: values of the quantized network by name, and the float network's outputs."""

    feeds: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]


class Samples:
    """feeds, targets: batch by batch.

    Where the first axis of all is the batch they are mixed by single samples, else whole batches are. One in eight is
    held out; where there is one alone, it serves for both.
    """

    def __init__(
        self,
        feeds: Sequence[Mapping[str, Array]],
        targets: Sequence[Mapping[str, Array]],
        rows: int,
        seed: Sequence[int],
    ) -> None:
        """rows: samples of one step, as far as they can be mixed."""
        self._rows, self._generator = rows, np.random.default_rng(seed)
        stores = [list(map(_tensors, each)) for each in (feeds, targets)]
        self._joined = _are_rows([*feeds, *targets], len(feeds))
        if self._joined:
            stores = [[_together(store)] for store in stores]
        self._feeds, self._targets = stores
        count = len(next(iter(self._feeds[0].values()))) if self._joined else len(self._feeds)
        order = self._generator.permutation(count)
        kept = max(count // _HELD_OUT, 1) if count > 1 else 0
        self._held = np.sort(order[:kept]) if kept else order
        self._learned = np.sort(order[kept:])

    def steps(self, count: int) -> Iterator[Sample]:
        """So many, each sample once before any comes again."""
        left: list[int] = []
        size = min(self._rows if self._joined else 1, len(self._learned))
        for _ in range(count):
            if len(left) < size:
                left = self._generator.permutation(self._learned).tolist()
            picked, left = left[:size], left[size:]
            yield self._take(picked)

    def held_out(self) -> Iterator[Sample]:
        size = self._rows if self._joined else 1
        for start in range(0, len(self._held), size):
            yield self._take(self._held[start : start + size].tolist())

    def power(self) -> dict[str, float]:
        """Of each target that is a float: its mean square about the mean."""
        found = {}
        for name in (name for name, tensor in self._targets[0].items() if tensor.is_floating_point()):
            whole = torch.cat([each[name].flatten() for each in self._targets])
            found[name] = max(float(whole.var(correction=0)), 1e-12)
        return found

    def _take(self, picked: list[int]) -> Sample:
        place = 0 if self._joined else picked[0]
        feeds, targets = self._feeds[place], self._targets[place]
        return Sample(_picked(feeds, picked), _picked(targets, picked)) if self._joined else Sample(feeds, targets)


def _picked(values: Mapping[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in values.items()}


def _tensors(values: Mapping[str, Array]) -> dict[str, Tensor]:
    found = {}
    for name, array in values.items():
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        found[name] = tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
    return found


def _are_rows(values: Sequence[Mapping[str, Array]], batches: int) -> bool:
    """Has every value of a batch as many rows, and are batches alike but for that?"""
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for each in values:
        for name, array in each.items():
            if array.ndim == 0:
                return False
            shapes.setdefault(name, set()).add(array.shape[1:])
    counts = [{len(array) for part in values[i::batches] for array in part.values()} for i in range(batches)]
    return all(len(each) == 1 for each in shapes.values()) and all(len(each) == 1 for each in counts)


def _together(values: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([each[name] for each in values]) for name in values[0]}
