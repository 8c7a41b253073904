"""What a dependency graph of channels is made of.

Every activation has one identity for each of its channels; those that must go together have one leader. (The idea is
that of Fang et al. 2023, DepGraph, for single channels instead of layers, so that slices of a residual stream can be
told apart.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["Channels", "Ids", "Layer", "Slot"]

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Slot:
    """One axis of a constant that has an entry for each of these channels. makes: they come from here."""

    name: str
    axis: int
    ids: Ids
    makes: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """Multiply-adds of one sample: positions x kernel x inputs x outputs (depthwise: x outputs alone)."""

    node: ir.Node
    each: int
    inputs: Ids | None
    outputs: Ids


@dataclass(slots=True)
class Channels:
    """leader: identity -> the one that stands for all that go with it; 0 stands for those that stay."""

    slots: list[Slot] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    of: dict[str, tuple[int, Ids]] = field(default_factory=dict)  # value -> channel axis and identities
    edits: list[tuple[ir.Node, Ids, Ids]] = field(default_factory=list)  # Pad: before and after; Split, Reshape: theirs
    _leader: list[int] = field(default_factory=lambda: [0])

    def new(self, count: int) -> Ids:
        first = len(self._leader)
        self._leader.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def leader(self, one: int) -> int:
        while self._leader[one] != one:
            self._leader[one] = self._leader[self._leader[one]]
            one = self._leader[one]
        return one

    def leaders(self, ids: Ids) -> Ids:
        return np.array([self.leader(int(i)) for i in ids], np.int64)

    def join(self, a: Ids, b: Ids) -> None:
        for i, j in zip(a, b, strict=True):
            low, high = sorted((self.leader(int(i)), self.leader(int(j))))
            self._leader[high] = low

    def hold(self, ids: Ids) -> None:
        """These stay."""
        self.join(ids, np.zeros_like(ids))

    def slot(self, value: ir.Value | None, axis: int, ids: Ids, *, makes: bool = False) -> None:
        assert value is not None
        name = str(value.name)
        for other in self.slots:
            if other.name == name and other.axis == axis:
                self.join(other.ids, ids)
                return
        self.slots.append(Slot(name, axis, ids, makes))
