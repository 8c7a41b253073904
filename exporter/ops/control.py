"""What is left of control flow and sequences where constants do not decide it: refused by reason."""

from __future__ import annotations

from exporter.control import CONTROL
from exporter.ops.lowering import Lowering
from exporter.ops.op import Float, Op

__all__ = ["ROWS"]

_LISTED = (
    "",
    "a sequence or optional whose content is known at run time only",
    "use tensors: stack, pad or split them",
)
_REASONS = {
    "If": ("cond", "computed at run time, with branches that no choice can stand for", "give both the same shapes"),
    "Scan": ("scan_input_axes", "how often it runs is computed at run time", "fix the length of what it scans"),
    "Loop": ("M", "how often it runs is computed at run time", "make the trip count a constant, and the condition too"),
}


def refused(ctx: Lowering) -> None:
    """Why it could not be written out."""
    raise ctx.refuse(*_REASONS.get(ctx.node.op_type, _LISTED))


ROWS = tuple(Op(name, Float("decides what runs"), ("static",), lower=refused) for name in CONTROL)
