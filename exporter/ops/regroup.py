"""Reshapes under any layout: axes are split and merged where they lie; only a merge may have to bring them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.ops.lowering import Layout, View

__all__ = ["BATCH", "arrangement", "groups"]

BATCH = 1_000_003  # a prime that stands for the unknown batch in products of sizes


def arrangement(
    view: View, shape: Sequence[int], target: Sequence[int], moves: frozenset[int]
) -> tuple[Layout, Layout] | None:
    """The layout to bring the view to, and that of the target which a RESHAPE gives from there; None: only ONNX order.

    Axes that a merge takes together go to where the last of them lies, so that the innermost axis stays inside.

    shape, target  ONNX shapes before and after, batch as 1
    moves          axes of the target that follow the batch
    """
    dynamic = {a for i, a in enumerate(view.layout) if i in view.tensor.dynamic}
    before = {a: s * (BATCH if a in dynamic else 1) for a, s in enumerate(shape)}
    after = {a: s * (BATCH if a in moves else 1) for a, s in enumerate(target)}
    found = None if 0 in before.values() else groups(before, after)
    if found is None:
        return None
    place = {a: i for i, a in enumerate(view.axes)}
    found = sorted(found, key=lambda group: max(place[a] for a in group[0]))
    old, new = ([a for group in found for a in group[side]] for side in (0, 1))
    if old == [a for a in view.axes if before[a] != 1]:
        return view.layout, _with_ones(new, len(target))
    return _with_ones(old, len(shape)), _with_ones(new, len(target))


def groups(before: Mapping[int, int], after: Mapping[int, int]) -> list[tuple[list[int], list[int]]] | None:
    """Smallest runs of axes before and after that hold the same elements; axes of size 1 left out."""
    olds, news = ([a for a, s in sizes.items() if s != 1] for sizes in (before, after))
    found = []
    while olds and news:
        old, new = [olds.pop(0)], [news.pop(0)]
        left, right = before[old[0]], after[new[0]]
        while left != right:
            rest, sizes, own = (olds, before, old) if left < right else (news, after, new)
            if not rest:
                return None
            own.append(rest.pop(0))
            if own is old:
                left *= sizes[own[-1]]
            else:
                right *= sizes[own[-1]]
        found.append((old, new))
    return None if olds or news else found


def _with_ones(order: Sequence[int], rank: int) -> Layout:
    """Axes of size 1 go behind the axis before them, or first."""
    result = list(order)
    for axis in range(rank):
        if axis not in result:
            result.insert(result.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(result)
