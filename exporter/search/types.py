"""What a search measures and decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from exporter.errors import RecipeError
from exporter.search.latency import RUNTIMES
from exporter.units import MILLION

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
    time    predicted on the target, in shares of what all layers take in float; None without a target
    error   of its own output, given float inputs: sum (y - q)^2 / sum (y - mean y)^2
    alone   score of the network in which nothing but this layer is quantized
    """

    bytes: int
    error: float
    alone: Score
    time: float | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """``weight``: name of its weight, ``values`` of them; choices by width."""

    weight: str
    values: int
    choices: Mapping[str, Choice]


@dataclass(frozen=True, slots=True)
class Point:
    """A whole plan: a width for each layer, in the order of the layers. metric: on the evaluation samples.

    divergence, metric  of layers rounded for themselves, activations in float; for a budget of latency as ``shipped``
    shipped             of the network as kbit export makes it, for plans that were rounded so
    """

    widths: tuple[str, ...]
    bytes: int
    divergence: float
    metric: float | None = None
    shipped: Score | None = None
    time: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """``bytes`` of all weights; ``average`` bits: the bytes that uniform widths would take; or ``latency``: predicted
    time of the layers on ``target``, in shares of what they take there in float, in ``runtimes`` (the slower one).
    """

    bytes: int | None = None
    average: float | None = None
    latency: float | None = None
    target: str | None = None
    runtimes: tuple[str, ...] = RUNTIMES

    def __post_init__(self) -> None:
        if [self.bytes, self.average, self.latency].count(None) != 2:
            raise RecipeError("a search needs one budget", "give --average BITS, --max-bytes N or --max-latency SHARE")
        if (self.latency is None) != (self.target is None):
            raise RecipeError("a budget of latency holds on a target", "give --max-latency SHARE and --on TARGET both")
        if self.latency is not None and not self.latency > 0:
            raise RecipeError(f"--max-latency {self.latency:g}: expected a number > 0, 1 being float's latency")
        if unknown := set(self.runtimes) - set(RUNTIMES):
            raise RecipeError(f"--runtime: unknown {', '.join(sorted(unknown))}", f"known: {', '.join(RUNTIMES)}")

    def spent(self, on: Choice | Point) -> int:
        """Bytes; or time in millionths."""
        return on.bytes if on.time is None or self.latency is None else round(on.time * MILLION)

    def resolve(self, layers: Sequence[Layer], bits: Mapping[str, float]) -> int:
        """What may be spent; an average between two widths lies between what those take. ``bits`` by width, ascending.

        Raises RecipeError where no plan is within it.
        """
        totals = {width: sum(self.spent(layer.choices[width]) for layer in layers) for width in bits}
        least = sum(min(self.spent(choice) for choice in layer.choices.values()) for layer in layers)
        if self.latency is not None:
            wanted = round(self.latency * MILLION)
            if wanted < least:
                found = f"a latency of {self.latency:g} of float's: the fastest plan takes {least / MILLION:.3f}"
                raise RecipeError(found, "raise it, or give other --widths")
        elif self.bytes is not None:
            wanted = self.bytes
        else:
            assert self.average is not None
            wanted = _between(self.average, sorted((bits[w], totals[w]) for w in bits))
        if wanted < least:
            found = f"a budget of {wanted:,} bytes: the narrowest width takes {least:,} bytes"
            raise RecipeError(found, "raise it, or give narrower --widths")
        return min(wanted, max(totals.values()))


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
