"""What a search measures and decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from exporter.errors import RecipeError

__all__ = ["Budget", "Choice", "Layer", "Point", "Score"]


@dataclass(frozen=True, slots=True)
class Score:
    """divergence of the outputs from the float model's; metric where the samples have labels (see search.kit)."""

    divergence: float
    metric: float | None


@dataclass(frozen=True, slots=True)
class Choice:
    """One width of one layer.

    bytes   of its weight, packed, with scales and zero points
    error   of its own output, given float inputs: sum (y - q)^2 / sum (y - mean y)^2
    alone   score of the network in which nothing but this layer is quantized
    """

    bytes: int
    error: float
    alone: Score


@dataclass(frozen=True, slots=True)
class Layer:
    """``weight``: name of its weight, ``values`` of them; choices by width."""

    weight: str
    values: int
    choices: Mapping[str, Choice]


@dataclass(frozen=True, slots=True)
class Point:
    """A whole plan: a width for each layer, in the order of the layers. metric: on the evaluation samples.

    divergence, metric  of layers rounded for themselves, activations in float
    shipped             of the network as kbit export makes it, for plans that were rounded so
    """

    widths: tuple[str, ...]
    bytes: int
    divergence: float
    metric: float | None = None
    shipped: Score | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """Either ``bytes`` of all weights, or ``average`` bits: the bytes that uniform widths would take."""

    bytes: int | None = None
    average: float | None = None

    def __post_init__(self) -> None:
        if (self.bytes is None) == (self.average is None):
            raise RecipeError("a search needs one budget", "give --average BITS or --max-bytes N")

    def resolve(self, layers: Sequence[Layer], bits: Mapping[str, float]) -> int:
        """Bytes; an average between two widths lies between what those take. ``bits`` of each width, ascending."""
        totals = {width: sum(layer.choices[width].bytes for layer in layers) for width in bits}
        least, most = min(totals.values()), max(totals.values())
        if self.bytes is not None:
            wanted = self.bytes
        else:
            assert self.average is not None
            wanted = _between(self.average, sorted((bits[w], totals[w]) for w in bits))
        if wanted < least:
            found = f"a budget of {wanted:,} bytes: the narrowest width takes {least:,} bytes"
            raise RecipeError(found, "raise it, or give narrower --widths")
        return min(wanted, most)


def _between(average: float, known: Sequence[tuple[float, int]]) -> int:
    for (a, low), (b, high) in pairwise(known):
        if a <= average <= b:
            return low + round((high - low) * (average - a) / (b - a))
    if not known[0][0] <= average <= known[-1][0]:
        raise RecipeError(
            f"an average of {average:g} bits lies outside the widths, {known[0][0]:g} to {known[-1][0]:g} bits",
            "give other --widths",
        )
    return known[0][1]
