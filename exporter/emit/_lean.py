"""Operators that nobody needs after all: conversions that a later reader looked through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exporter.ops.lowering import Operator, Tensor

__all__ = ["live"]


def live(operators: Sequence[Operator], outputs: Iterable[Tensor]) -> list[Operator]:
    """The operators, in order, that contribute to the outputs."""
    needed = {id(t) for t in outputs}
    kept = []
    for operator in reversed(operators):
        if any(id(t) in needed for t in operator.outputs):
            kept.append(operator)
            needed.update(id(t) for t in operator.inputs if t is not None)
    return kept[::-1]
