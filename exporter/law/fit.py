"""loss = floor + amount(bits) * size ** -slope, in total bits: one curve a width, all of one shape.

The floor and the slope belong to the family and its data, the amount to the width: Kaplan et al. 2020, eq. 1.1, with
bits in place of parameters. Dettmers and Zettlemoyer 2023 find the curves of different widths nearly parallel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.law.types import Result

__all__ = ["Fit", "fit", "frontier"]

Floats = npt.NDArray[np.float64]
_SLOPES = np.linspace(0.02, 1.5, 149)
_REFINED = 3


@dataclass(frozen=True, slots=True)
class Fit:
    """The curves. amount: by width; error: root mean square of the residuals; best: the width whose curve is lowest."""

    floor: float
    slope: float
    amount: Mapping[str, float]
    error: float

    def loss(self, bits: str, size: float) -> float:
        """At ``size`` total bits."""
        return float(self.floor + self.amount[bits] * size**-self.slope)

    @property
    def best(self) -> str:
        """The width with the lowest curve: at equal total bits the best model has it, as far as the fit goes."""
        return min(self.amount, key=lambda bits: self.amount[bits])


def fit(results: Sequence[Result]) -> Fit | None:
    """Least squares: the slope by search, floor and amounts in closed form. None below three sizes of any width."""
    by_width: dict[str, list[Result]] = {}
    for result in results:
        by_width.setdefault(result.bits, []).append(result)
    widths = [bits for bits, rows in by_width.items() if len({r.weight_bits for r in rows}) >= 3]
    if not widths:
        return None
    rows = [result for bits in widths for result in by_width[bits]]
    sizes = np.array([r.weight_bits for r in rows], np.float64)
    losses = np.array([r.loss for r in rows], np.float64)
    member = np.array([[r.bits == bits for bits in widths] for r in rows], np.float64)
    slopes = _SLOPES
    for _ in range(_REFINED):
        slope = float(min(slopes, key=lambda s: _solved(sizes, losses, member, s)[0]))
        step = slopes[1] - slopes[0]
        slopes = np.linspace(max(slope - step, 1e-3), slope + step, 41)
    total, numbers = _solved(sizes, losses, member, slope)
    amount = dict(zip(widths, map(float, numbers[1:]), strict=True))
    return Fit(float(numbers[0]), slope, amount, float(np.sqrt(total / len(rows))))


def _solved(sizes: Floats, losses: Floats, member: Floats, slope: float) -> tuple[float, Floats]:
    """Sum of squares, and floor and amounts, for one slope. No floor below zero."""
    curves = member * (sizes**-slope)[:, None]
    numbers = np.asarray(np.linalg.lstsq(np.column_stack([np.ones(len(sizes)), curves]), losses, rcond=None)[0])
    if numbers[0] < 0:
        numbers = np.append(0.0, np.linalg.lstsq(curves, losses, rcond=None)[0])
    rest = losses - numbers[0] - curves @ numbers[1:]
    return float(rest @ rest), numbers


def frontier(results: Sequence[Result]) -> list[Result]:
    """What no other result beats in both file size and loss, smallest first."""
    found: list[Result] = []
    for result in sorted(results, key=lambda r: (r.file_bytes, r.loss)):
        if not found or result.loss < found[-1].loss:
            found.append(result)
    return found
