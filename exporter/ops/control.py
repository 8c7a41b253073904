"""What is left of control flow and sequences where constants do not decide it: refused by reason."""

from __future__ import annotations

from collections.abc import Callable

from exporter.control import CONTROL
from exporter.ops.lowering import Lowering
from exporter.ops.op import Float, Op

__all__ = ["ROWS"]

_CHOOSE = "both branches must give tensors of the same shapes"
_COUNT = "make the trip count a constant, and the condition too where rows are collected"
_FLOW = {
    "If": ("cond", "computed at run time, with branches that no choice can stand for", _CHOOSE),
    "Loop": ("M", "how often it runs is computed at run time", _COUNT),
    "Scan": ("scan_input_axes", "how often it runs is computed at run time", "fix the length of what it scans"),
}
_LISTED = (
    "",
    "a sequence or optional whose content is known at run time only",
    "use tensors: stack, pad or split them",
)


def _refusing(attribute: str, found: str, hint: str) -> Callable[[Lowering], None]:
    def lower(ctx: Lowering) -> None:
        raise ctx.refuse(attribute, found, hint)

    return lower


ROWS = tuple(
    Op(name, Float("decides what runs"), ("static",), lower=_refusing(*_FLOW.get(name, _LISTED))) for name in CONTROL
)
