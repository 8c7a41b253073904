"""If, and optionals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from exporter.control.writer import ABSENT, Absent, Result, Rule, Writer

__all__ = ["BRANCHES"]


def branch(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """The branch that a known condition takes; else both, and a choice between what they give."""
    condition = inputs[0]
    found = writer.known(condition)
    if found is not None:
        return writer.body(writer.inner(node, "then_branch" if found.item() else "else_branch"), {})
    if not isinstance(condition, ir.Value):
        return None
    yes = writer.body(writer.inner(node, "then_branch"), {})
    no = writer.body(writer.inner(node, "else_branch"), {})
    if yes is None or no is None:
        return None
    flag = writer.scalar(condition)
    chosen = [writer.choice(flag, a, b) for a, b in zip(yes, no, strict=True)]
    return None if any(c is None for c in chosen) else [c for c in chosen if c is not None]


def optional(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """Its element itself."""
    return [inputs[0]] if inputs and inputs[0] is not None else [ABSENT]


def element(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """What the optional holds; None while that is an input of the graph."""
    value = inputs[0]
    return None if value is None or isinstance(value, Absent) or _is_optional(value) else [value]


def has_element(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """A constant, but for inputs of the graph."""
    value = inputs[0] if inputs else None
    if _is_optional(value):
        return None
    return [writer.constant(np.asarray(value is not None and not isinstance(value, Absent)))]


def _is_optional(value: Result | None) -> bool:
    return isinstance(value, ir.Value) and isinstance(value.type, ir.OptionalType)


BRANCHES: Mapping[str, Rule] = {
    "If": branch,
    "Optional": optional,
    "OptionalGetElement": element,
    "OptionalHasElement": has_element,
}
