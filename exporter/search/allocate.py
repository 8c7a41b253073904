"""One choice for each layer: least cost in all within a budget. A multiple-choice knapsack, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["allocate"]

_CELLS = 8192  # of the budget; sizes are rounded up to whole cells, so that the budget always holds


def allocate(costs: Sequence[Sequence[float]], sizes: Sequence[Sequence[int]], budget: int) -> list[int] | None:
    """The index chosen for each layer, or None where nothing fits.

    costs, sizes  [layers][choices]; a cost of infinity is never chosen
    Dynamic programming over the budget (Kellerer, Pferschy, Pisinger 2004, section 11.5).
    """
    bases = [min(s for s, c in zip(*pair, strict=True) if np.isfinite(c)) for pair in zip(sizes, costs, strict=True)]
    least = sum(bases)
    if least > budget:
        return None
    spare = budget - least
    cell = max(-(-spare // _CELLS), 1)
    room = spare // cell
    best = np.zeros(room + 1)
    taken = []
    for row, cost, base in zip(sizes, costs, bases, strict=True):
        options = np.full((len(row), room + 1), np.inf)
        for place, (size, price) in enumerate(zip(row, cost, strict=True)):
            extra = -(-(size - base) // cell)
            if np.isfinite(price) and 0 <= extra <= room:
                options[place, extra:] = best[: room + 1 - extra] + price
        choice = options.argmin(axis=0)
        taken.append((choice, row, base))
        best = options[choice, np.arange(room + 1)]
    place = int(np.argmin(best))
    found = []
    for choice, row, base in reversed(taken):
        index = int(choice[place])
        found.append(index)
        place -= -(-(row[index] - base) // cell)
    return found[::-1]
