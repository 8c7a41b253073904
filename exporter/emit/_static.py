"""Graphs folded, shapes known, and what in them follows the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.emit._batch import Law, Sized, law_of, sized
from exporter.emit._folding import folded
from exporter.errors import UnsupportedError
from exporter.ops.lowering import mark
from exporter.ops.recurrent_weights import RECURRENT

__all__ = ["Fixed", "fix_batch"]

Array = npt.NDArray[Any]

_BATCHES = (61, 97, 3, 1)  # large ones that no other dimension is likely to be
_VANISHING = {  # what folding may drop where the batch is 1
    "Add", "Cast", "Concat", "Div", "Expand", "Flatten", "Gather", "Identity", "Mul", "Reshape", "Slice", "Squeeze",
    "Sub", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fixed:
    """A folded copy of a graph, and what grows in it.

    model    folded for some batch: whatever says which one has a law
    sizes    shapes by value name
    laws     constants that follow the batch, by value name; None where no law fits
    several  do the inputs name more than one dynamic dimension?
    """

    model: ir.Model
    sizes: dict[str, Sized]
    laws: Mapping[str, Law | None]
    several: bool


def fix_batch(model: ir.Model) -> Fixed:
    """Fold the graph for a few batches and compare.

    Not for batch 1, which broadcasts: an Expand to the batch would be gone. Far apart they show what only looks like a
    law, such as a minimum. Graphs that never ask for a shape need no more than two.
    Raises UnsupportedError for a dynamic dimension other than the first, for a graph that is another one for another
    batch, and for a shape that inference cannot find.
    """
    symbols = _symbols(model)
    if not symbols:
        one = folded(model, 1)[0]
        return Fixed(one, _all_sizes({1: one}, {}), {}, False)
    first, rewritten = folded(model, _BATCHES[0])
    models = {_BATCHES[0]: first, _BATCHES[1]: folded(model, _BATCHES[1])[0]}
    _compare(first, models[_BATCHES[1]])
    constants = _twins(models)
    asks = rewritten or any(n.op_type in {"Shape", "Size"} for n in ir.traversal.RecursiveGraphIterator(model.graph))
    if asks or _laws(constants):
        models |= {batch: folded(model, batch)[0] for batch in _BATCHES[2:]}
        constants = _twins(models)
        if _kinds(first) != _kinds(models[1]):
            raise _follows(model.graph.name or "", "it has other operators for a batch of 1")
    return Fixed(first, _all_sizes(models, constants), _laws(constants), len(symbols) > 1)


Twins = Mapping[str, Mapping[int, Array]]  # what each constant is for each batch


def _all_sizes(models: Mapping[int, ir.Model], constants: Twins) -> dict[str, Sized]:
    shapes = {batch: _sizes(model) for batch, model in models.items()}
    found = {}
    for name in next(iter(shapes.values())):
        known = {batch: s[name] for batch, s in shapes.items() if name in s}
        known |= {batch: a.shape for batch, a in constants.get(name, {}).items()}
        size = sized(known)
        if size is None:
            raise _follows(name, "its rank follows the batch")
        if len(known) > 1 or len(models) == 1:
            found[name] = size
    return found


def _compare(one: ir.Model, two: ir.Model) -> None:
    """Raise UnsupportedError where the two do not hold the same operators."""
    for a, b in zip_longest(one.graph, two.graph):
        if a is None or b is None or _what(a) != _what(b):
            node = a or b
            found = "the graph for another batch has other operators here"
            raise UnsupportedError(node.name or "", node.op_type, "", found, "export with a fixed batch")


def _kinds(model: ir.Model) -> Counter[str]:
    return Counter(n.op_type for n in model.graph if n.op_type not in _VANISHING)


def _what(node: ir.Node) -> tuple[object, ...]:
    """Operator and names; constants have none, since folding shares equal ones up to some size."""
    inputs = [None if v is None else "" if graph.constant(v) is not None else v.name for v in node.inputs]
    return node.domain, node.op_type, *inputs, *(v.name for v in node.outputs)


def _twins(models: Mapping[int, ir.Model]) -> Twins:
    """By place where the operators are the same, else by name."""
    first = models[_BATCHES[0]]
    found: dict[str, dict[int, Array]] = {}
    for batch, model in models.items():
        named = {v.name: v for v in _constants(model)}
        pairs = [(v, named[v.name]) for v in _constants(first) if v.name in named]
        nodes = list(zip_longest(first.graph, model.graph))
        if all(a is not None and b is not None and _what(a) == _what(b) for a, b in nodes):
            pairs += [p for a, b in nodes for p in zip(a.inputs, b.inputs, strict=True) if None not in p]
        for value, twin in pairs:
            array = graph.constant(twin)
            if array is not None and value.name and graph.constant(value) is not None:
                found.setdefault(value.name, {})[batch] = array
    return found


def _laws(constants: Twins) -> dict[str, Law | None]:
    """Of all that are not the same for every batch."""
    found = {}
    for name, arrays in constants.items():
        first = arrays[_BATCHES[0]]
        if len({mark(a) for a in arrays.values()}) > 1 and not all(_equal(a, first) for a in arrays.values()):
            found[name] = law_of(arrays) if len(arrays) > 2 else None
    return found


def _equal(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _constants(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.initializers.values()
    for node in model.graph:
        if node.op_type == "Constant":
            yield from node.outputs


def _follows(name: str, found: str) -> UnsupportedError:
    return UnsupportedError(name, "graph", "batch", found, "export with a fixed batch")


def _symbols(model: ir.Model) -> set[str]:
    """Names of the batch: first dimensions, and the second of a sequence that a recurrent layer reads by time."""
    values = [v for v in model.graph.inputs if v.shape is not None]
    found = {str(v.shape[0]) for v in values if v.shape and not isinstance(v.shape[0], int)} | _batches_by_time(model)
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int) and str(size) not in found:
                raise UnsupportedError(
                    value.name or "", "input", "shape", f"dimension {axis} is dynamic ({size})",
                    "only the first may be, as the batch: fix the others",
                )  # fmt: skip
    return found


def _batches_by_time(model: ir.Model) -> set[str]:
    found = set()
    for node in model.graph:
        if node.op_type in RECURRENT and not node.attributes.get_int("layout", 0):
            shape = node.inputs[0].shape if node.inputs[0] is not None else None
            if shape is not None and len(shape) == 3 and not isinstance(shape[1], int):
                found.add(str(shape[1]))
    return found


def _sizes(model: ir.Model) -> Mapping[str, tuple[int | None, ...]]:
    values = [
        *model.graph.inputs,
        *model.graph.initializers.values(),
        *(v for node in model.graph for v in node.outputs),
    ]
    shapes = {v.name: graph.shape_of(v) for v in values if v.name}
    return {name: shape for name, shape in shapes.items() if shape is not None}
