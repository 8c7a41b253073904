"""Sequences of tensors whose length is known: each element is a value of the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.control.writer import Result, Rule, Writer

__all__ = ["SEQUENCES"]


def _place(value: Result | None, length: int, writer: Writer) -> int | None:
    """A position, counted from the end where negative."""
    found = writer.known(value)
    return None if found is None else int(found.item()) + (length if found.item() < 0 else 0)


def construct(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """Its inputs, in order."""
    return [tuple(v for v in inputs if isinstance(v, ir.Value))]


def insert(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """One element more: at a place, or at the end."""
    elements, new = inputs[0], inputs[1]
    if not isinstance(elements, tuple) or not isinstance(new, ir.Value):
        return None
    place = _place(inputs[2], len(elements), writer) if len(inputs) > 2 else len(elements)
    return None if place is None else [(*elements[:place], new, *elements[place:])]


def erase(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """One element fewer."""
    elements = inputs[0]
    if not isinstance(elements, tuple):
        return None
    place = _place(inputs[1], len(elements), writer) if len(inputs) > 1 else len(elements) - 1
    return None if place is None else [(*elements[:place], *elements[place + 1 :])]


def at(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """One element."""
    elements = inputs[0]
    if not isinstance(elements, tuple):
        return None
    place = _place(inputs[1], len(elements), writer)
    return None if place is None or not 0 <= place < len(elements) else [elements[place]]


def length(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """A constant."""
    elements = inputs[0]
    return [writer.constant(np.asarray(len(elements)))] if isinstance(elements, tuple) else None


def concat(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """Concat, along a new axis where it says so."""
    elements, axis = inputs[0], node.attributes["axis"].as_int()
    if not isinstance(elements, tuple) or not elements:
        return None
    if node.attributes.get_int("new_axis", 0):
        elements = tuple(writer.op("Unsqueeze", e, np.asarray([axis])) for e in elements)
    return [writer.op("Concat", *elements, axis=axis)]


def split(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """Split into parts of the sizes given, of one size, or of 1."""
    source, axis = inputs[0], node.attributes.get_int("axis", 0)
    shape = graph.shape_of(source) if isinstance(source, ir.Value) else None
    total = None if shape is None else shape[axis]
    given = len(inputs) > 1 and inputs[1] is not None
    sizes = writer.known(inputs[1]) if given else np.asarray(1)
    if total is None or sizes is None or not isinstance(source, ir.Value):
        return None
    if sizes.ndim == 0:
        size = int(sizes)
        sizes = np.asarray([min(size, total - start) for start in range(0, total, size)])
    parts = writer.ops("Split", len(sizes), source, sizes.astype(np.int64), axis=axis)
    if not given and not node.attributes.get_int("keepdims", 1):
        parts = [writer.op("Squeeze", p, np.asarray([axis])) for p in parts]
    return [tuple(parts)]


def each(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """The inner graph for every element; tensors are the same for all."""
    body, first = writer.inner(node, "body"), inputs[0]
    if not isinstance(first, tuple):
        return None
    columns: list[list[ir.Value]] = [[] for _ in body.outputs]
    for place in range(len(first)):
        given = [v[place] if isinstance(v, tuple) else v for v in inputs]
        results = writer.body(body, {v: r for v, r in zip(body.inputs, given, strict=True) if r is not None})
        if results is None:
            return None
        for column, result in zip(columns, results, strict=True):
            if not isinstance(result, ir.Value):
                return None
            column.append(result)
    return [tuple(column) for column in columns]


SEQUENCES: Mapping[str, Rule] = {
    "SequenceConstruct": construct,
    "SequenceEmpty": construct,
    "SequenceInsert": insert,
    "SequenceErase": erase,
    "SequenceAt": at,
    "SequenceLength": length,
    "ConcatFromSequence": concat,
    "SplitToSequence": split,
    "SequenceMap": each,
}
