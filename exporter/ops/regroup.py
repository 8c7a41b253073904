"""Reshapes that split and merge axes which lie side by side need no ONNX order first: a transposed tensor stays so."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.ops.lowering import NEW, Layout, View

__all__ = ["regrouped"]

_BATCH = 1_000_003  # a prime that stands for the unknown batch in products of sizes


def regrouped(view: View, shape: Sequence[int], target: Sequence[int], moves: frozenset[int]) -> Layout | None:
    """Layout in which one RESHAPE of the tensor gives the target; None when it takes a TRANSPOSE before.

    shape, target  ONNX shapes before and after, batch as 1
    moves          axes of the target that follow the batch
    """
    dynamic = {a for i, a in enumerate(view.layout) if i in view.tensor.dynamic}
    before = {a: s * (_BATCH if a in dynamic else 1) for a, s in enumerate(shape)}
    after = {a: s * (_BATCH if a in moves else 1) for a, s in enumerate(target)}
    if 0 in before.values():
        return None
    groups = _groups(before, after)
    if groups is None:
        return None
    starts = {old[0]: (old, new) for old, new in groups}
    physical = [a for a in view.layout if a != NEW and before[a] != 1]
    order: list[int] = []
    while physical:
        found = starts.get(physical[0])
        if found is None or physical[: len(found[0])] != found[0]:
            return None
        physical = physical[len(found[0]) :]
        order += found[1]
    return _with_ones(order, len(target))


def _groups(before: dict[int, int], after: dict[int, int]) -> list[tuple[list[int], list[int]]] | None:
    """Smallest runs of axes before and after that hold the same elements; axes of size 1 left out."""
    olds, news = ([a for a, s in sizes.items() if s != 1] for sizes in (before, after))
    groups = []
    while olds and news:
        old, new = [olds.pop(0)], [news.pop(0)]
        left, right = before[old[0]], after[new[0]]
        while left != right:
            more, sizes, own = (olds, before, old) if left < right else (news, after, new)
            if not more:
                return None
            own.append(more.pop(0))
            if left < right:
                left *= sizes[own[-1]]
            else:
                right *= sizes[own[-1]]
        groups.append((old, new))
    return None if olds or news else groups


def _with_ones(order: list[int], rank: int) -> Layout:
    """Axes of size 1 go behind the axis before them, or first."""
    result = list(order)
    for axis in range(rank):
        if axis not in result:
            result.insert(result.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(result)
