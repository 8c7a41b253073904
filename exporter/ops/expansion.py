"""Operators written with simpler ONNX operators: what a row's ``expand`` function works with, and the walk.

The walk runs on a graph whose shapes are known, before it is translated (and before an int8 plan, where the simpler
operators have integer kernels and the node itself has none). What it writes is ordinary ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.errors import UnsupportedError
from exporter.ops.op import Op

__all__ = ["Expansion", "Operand", "expand", "rows_by_name"]

Array = npt.NDArray[Any]
Operand = ir.Value | Array | None
Made = TypeVar("Made")


class Expansion:
    """One node on its way to simpler ones, inserted before it.

    ``finish`` says what stands for its outputs; a row that does not call it leaves the node as it is.
    """

    def __init__(self, g: ir.Graph, node: ir.Node, taken: set[str], memo: dict[Hashable, Any]) -> None:
        self.graph, self.node = g, node
        self._taken, self._memo = taken, memo
        self._read: set[str] = set()
        self._stem = node.name or node.outputs[0].name or node.op_type
        self._own: set[int] = set()
        self.results: list[ir.Value] = []
        self.done = False

    # -- what the node says

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute as a plain Python value."""
        self._read.add(name)
        return graph.attribute(self.node, name, default)

    def refuse(self, attribute: str, found: str, hint: str = "") -> UnsupportedError:
        """The error to raise for what cannot be expressed."""
        return UnsupportedError(self.node.name or "", self.node.op_type, attribute, found, hint)

    def has(self, index: int) -> bool:
        """Is optional input ``index`` given?"""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def wants(self, index: int) -> bool:
        """Is output ``index`` read by anyone?"""
        if index >= len(self.node.outputs):
            return False
        value = self.node.outputs[index]
        return bool(value.uses()) or value.is_graph_output()

    def input(self, index: int) -> ir.Value:
        """Input ``index``; refused when it is missing."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        if value is None:
            raise self.refuse("", f"input {index} is missing")
        return value

    def const(self, index: int) -> Array | None:
        """Array of a constant input; None when absent or computed."""
        return graph.constant(self.node.inputs[index]) if self.has(index) else None

    def static(self, index: int, name: str, default: Any = None) -> Any:
        """A constant input as Python numbers, or ``default`` when absent; refused when computed."""
        if not self.has(index):
            return default
        array = self.const(index)
        if array is None:
            raise self.refuse(name, "computed at run time", "make it a constant")
        return array.tolist()

    def shape(self, index: int) -> tuple[int | None, ...]:
        """Shape of an input, None for a symbolic dimension; refused when the rank is unknown."""
        shape = graph.shape_of(self.input(index))
        if shape is None:
            raise self.refuse("shape", f"the shape of {self.input(index).name!r} is not known", "fix all shapes")
        return shape

    def sizes(self, index: int) -> tuple[int, ...]:
        """Shape of an input; refused where a dimension is symbolic."""
        shape = self.shape(index)
        fixed = tuple(d for d in shape if d is not None)
        if len(fixed) < len(shape):
            raise self.refuse("shape", f"{self.input(index).name!r} has a dynamic dimension", "fix all shapes")
        return fixed

    # -- what it is written with

    def op(self, kind: str, *inputs: Operand, **attributes: Any) -> ir.Value:
        """The output of a new operator; arrays become constants."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: Operand, **attributes: Any) -> Sequence[ir.Value]:
        """Like ``op``, for an operator of ``count`` outputs."""
        values = [self.constant(np.asarray(i)) if isinstance(i, np.ndarray | np.generic) else i for i in inputs]
        name = self._name(kind)
        outputs = [ir.Value(name=name if n == 0 else f"{name}.{n}") for n in range(count)]
        node = ir.Node("", kind, values, ir.convenience.convert_attributes(attributes), outputs=outputs, name=name)
        self.graph.insert_before(self.node, node)
        self._own.update(id(o) for o in outputs)
        return outputs

    def constant(self, array: Array) -> ir.Value:
        """An initializer."""
        return graph.add_initializer(self.graph, self._name("constant"), array)

    def _name(self, tag: str) -> str:
        name, count = f"{self._stem}/{tag}", 0
        while name in self._taken:
            count += 1
            name = f"{self._stem}/{tag}_{count}"
        self._taken.add(name)
        return name

    def reshape(self, x: Operand, sizes: Sequence[int]) -> ir.Value:
        """Reshape; 0 copies the size at its place, -1 follows from the rest."""
        return self.op("Reshape", x, np.asarray(sizes, np.int64))

    def transpose(self, x: Operand, order: Sequence[int]) -> Operand:
        """Transpose, unless the order is the present one."""
        return x if list(order) == sorted(order) else self.op("Transpose", x, perm=tuple(order))

    def scaled(self, x: Operand, factor: float) -> Operand:
        """x times a number, unless that is 1."""
        return x if factor == 1.0 else self.op("Mul", x, np.asarray(factor, np.float32))

    def through(self, name: str, x: ir.Value) -> ir.Value:
        """x through the graph in attribute ``name``, which has one input and one output; x itself without one."""
        inner = self.attr(name)
        if inner is None:
            return x
        assert isinstance(inner, ir.Graph)
        known: dict[ir.Value, ir.Value | None] = {inner.inputs[0]: x}
        for value in inner.initializers.values():
            array = graph.constant(value)
            assert array is not None
            known[value] = self.constant(array)
        for node in inner:
            values = [None if v is None else known.get(v, v) for v in node.inputs]
            outputs = [ir.Value(name=self._name(node.op_type), type=v.type, shape=v.shape) for v in node.outputs]
            copy = ir.Node(node.domain, node.op_type, values, node.attributes.values(), outputs=outputs,
                           overload=node.overload, name=outputs[0].name)  # fmt: skip
            self.graph.insert_before(self.node, copy)
            known.update(zip(node.outputs, outputs, strict=True))
        result = known[inner.outputs[0]]
        assert result is not None
        return result

    def shared(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What ``make`` returned for an earlier node with the same key: masks and tables that many layers read."""
        if key not in self._memo:
            before = set(self._own)
            self._memo[key] = make()
            self._own = before
        found: Made = self._memo[key]
        return found

    def finish(self, *results: Operand) -> None:
        """``results`` stand for the node's outputs (None: nobody reads it); the node goes."""
        for old, result in zip(self.node.outputs, results, strict=False):
            if result is None:
                continue
            new = result if isinstance(result, ir.Value) and id(result) in self._own else self.op("Identity", result)
            self._own.discard(id(new))
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            new.name, old.name = old.name, None
            new.shape, new.type = old.shape, old.type
            self.results.append(new)
        self.graph.remove(self.node, safe=True)
        self.done = True

    def refuse_unread(self, ignored: Collection[str]) -> None:
        """Raise UnsupportedError for an attribute that nobody asked for: its meaning would be lost."""
        for name in self.node.attributes:
            if name not in self._read and name not in ignored:
                value = repr(graph.attribute(self.node, name)).splitlines()[0]
                found = f"{value}, which this operator's expansion does not know"
                raise self.refuse(name, found, "leave it out, or leave tflite out of targets.runtimes")


def rows_by_name(rows: Mapping[str, Op], node: ir.Node) -> Op | None:
    """The row of a node; None when the table has none for its operator and domain."""
    row = rows.get(node.op_type)
    domain = "" if node.domain == "ai.onnx" else node.domain
    return row if row is not None and row.domain == domain else None


def expand(model: ir.Model, rows: Mapping[str, Op], only: Collection[str] | None = None) -> bool:
    """Write every node whose row has ``expand`` (or those of the types ``only``) with simpler ones; True if any did.

    Shapes of the new values are left for shape inference. Raises UnsupportedError.
    """
    return _expand(model.graph, rows, only)


def _expand(g: ir.Graph, rows: Mapping[str, Op], only: Collection[str] | None) -> bool:
    memo: dict[Hashable, Any] = {}
    taken = {v.name for v in [*g.inputs, *g.initializers.values(), *(o for n in g for o in n.outputs)] if v.name}
    changed, results = False, []
    for node in list(g):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                changed |= _expand(attribute.as_graph(), rows, only)
        row = rows_by_name(rows, node)
        if row is None or row.expand is None or (only is not None and node.op_type not in only):
            continue
        wrong_type = _wrong_type(node, row)
        expansion = Expansion(g, node, taken, memo)
        row.expand(expansion)
        if expansion.done:
            if wrong_type is not None:
                raise wrong_type
            expansion.refuse_unread(row.ignores)
            results += expansion.results
    for value in results:
        value.shape = None  # inference finds it anew: for STFT onnx itself is wrong
    return changed or bool(results)


def _wrong_type(node: ir.Node, row: Op) -> UnsupportedError | None:
    for index, value in enumerate(node.inputs):
        if value is None or row.role(index) == "static" or value.dtype is None:
            continue
        if value.dtype.numpy().name not in row.types:
            found = f"{value.name!r} is {value.dtype.numpy().name}"
            return UnsupportedError(node.name or "", node.op_type, "type", found, f"can be {', '.join(row.types)}")
    return None
