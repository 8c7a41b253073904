"""Integer division where TFLite has none (int64), and the remainder that goes with it."""

from __future__ import annotations

from exporter.ops.lowering import Tensor
from exporter.ops.steps import Steps

__all__ = ["exact_quotient", "multiple_over", "truncated_remainder"]

_ROUNDS = 3  # each takes 22 bits off the remainder: 2^63 -> 2^41 -> 2^19 -> 0


def truncated_remainder(steps: Steps, a: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
    """a - b * trunc(a / b): FLOOR_MOD, moved by one divisor where its sign is not that of the dividend."""
    floored = steps.binary("FLOOR_MOD", a, b)
    apart = steps.binary("NOT_EQUAL", steps.binary("LESS", a, 0), steps.binary("LESS", b, 0))
    moved = steps.binary("LOGICAL_AND", apart, steps.binary("NOT_EQUAL", floored, 0))
    return steps.select(moved, steps.sub(floored, b), floored, into)


def exact_quotient(steps: Steps, a: Tensor, b: Tensor, into: Tensor) -> Tensor:
    """trunc(a / b) of int64."""
    return multiple_over(steps, steps.sub(a, truncated_remainder(steps, a, b)), b, into)


def multiple_over(steps: Steps, multiple: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
    """An int64 multiple of b, divided by b: in float32, and what that leaves again, until nothing is left."""
    divisor, left = steps.cast(b, "float32"), multiple
    total: Tensor | None = None
    for number in range(_ROUNDS):
        part = steps.cast(steps.unary("ROUND", steps.div(steps.cast(left, "float32"), divisor)), "int64")
        last = number == _ROUNDS - 1
        total = part if total is None else steps.add(total, part, into if last else None)
        if not last:
            left = steps.sub(left, steps.mul(part, b))
    assert total is not None
    return total
