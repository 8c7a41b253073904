"""Writes the operators of inner graphs into the main one, computing what constants decide on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.control.evaluation import computed
from exporter.errors import UnsupportedError

__all__ = ["ABSENT", "CHOICE", "LIMIT", "Absent", "Result", "Rule", "Writer"]

LIMIT = 20_000  # operators and steps that are written out or computed in one graph
CHOICE = "kbit.choice"  # metadata of a Where whose two values must have one shape

Array = npt.NDArray[Any]


class Absent:
    """An optional without an element."""


ABSENT = Absent()
Result = ir.Value | tuple[ir.Value, ...] | Absent  # a tensor, a sequence, an optional that is empty
Rule = Callable[[ir.Node, Sequence[Result | None], "Writer"], "list[Result] | None"]


class Writer:
    """New operators go in before one node of the main graph.

    lists  what sequence and optional values of the main graph hold
    """

    def __init__(self, model: ir.Model, rules: Mapping[str, Rule]) -> None:
        self.graph, self.rules = model.graph, rules
        self.opsets = dict(model.graph.opset_imports)
        self.lists: dict[ir.Value, Result] = {}
        self._taken = {v.name for v in [*model.graph.inputs, *model.graph.initializers.values()] if v.name}
        self._taken.update(v.name for node in model.graph for v in node.outputs if v.name)
        self._counts: Counter[str] = Counter()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._written = 0
        self._anchor: ir.Node | None = None

    def before(self, node: ir.Node) -> None:
        """From now on operators are written before this node."""
        self._anchor = node

    def control(self, node: ir.Node, inputs: Sequence[Result | None]) -> list[Result] | None:
        """Write out one control or sequence operator; None where something is not known yet."""
        return self.rules[node.op_type](node, inputs, self)

    # -- what is there

    def known(self, value: Result | None) -> Array | None:
        """Numbers of a constant; None for anything else."""
        return graph.constant(value) if isinstance(value, ir.Value) else None

    def inner(self, node: ir.Node, name: str) -> ir.Graph:
        """The graph in an attribute."""
        return node.attributes[name].as_graph()

    # -- what is written

    def body(self, inner: ir.Graph, values: dict[ir.Value, Result]) -> list[Result] | None:
        """The operators of an inner graph, its inputs being ``values``; what its outputs are, or None (see control)."""
        self._count()
        for initial in inner.initializers.values():
            array = graph.constant(initial)
            if array is not None and initial not in values:
                values[initial] = self.constant(array)
        for node in inner:
            results = self._node(node, values)
            if results is None:
                return None
            values.update(zip(node.outputs, results, strict=True))
        return [self._resolved(v, values) for v in inner.outputs]

    def _resolved(self, value: ir.Value, values: Mapping[ir.Value, Result]) -> Result:
        return values.get(value, self.lists.get(value, value))

    def _node(self, node: ir.Node, values: dict[ir.Value, Result]) -> list[Result] | None:
        inputs = [None if v is None else self._resolved(v, values) for v in node.inputs]
        if node.op_type in self.rules and node.domain in {"", "ai.onnx"}:
            return self.control(node, inputs)
        tensors = [v for v in inputs if v is None or isinstance(v, ir.Value)]
        if len(tensors) < len(inputs):
            return None
        if node.op_type == "Identity" and node.domain == "" and tensors[0] is not None:
            return [tensors[0]]
        found = self._computed(node, tensors)
        if found is not None:
            self._count()
            return list(found)
        outputs = [ir.Value(name=self._name(v.name or "inner"), type=v.type) for v in node.outputs]
        copy = ir.Node(
            node.domain, node.op_type, tensors, list(node.attributes.values()), overload=node.overload,
            outputs=outputs, name=self._name(node.name or node.op_type), metadata_props=dict(node.metadata_props),
        )  # fmt: skip
        self._insert(copy)
        return list(outputs)

    def _computed(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> list[ir.Value] | None:
        """The outputs as constants, where the inputs are and all is small."""
        arrays = computed(node, inputs, self.opsets)
        return None if arrays is None else [self.constant(a) for a in arrays]

    def op(self, kind: str, *inputs: ir.Value | Array, **attributes: Any) -> ir.Value:
        """The output of a new operator; arrays become constants."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: ir.Value | Array, **attributes: Any) -> list[ir.Value]:
        """Like ``op``, for ``count`` outputs."""
        values = [v if isinstance(v, ir.Value) else self.constant(v) for v in inputs]
        stem = self._anchor.name if self._anchor is not None else None
        name = self._name(f"{stem or 'control'}/{kind}")
        outputs = [ir.Value(name=name if n == 0 else self._name(name)) for n in range(count)]
        node = ir.Node("", kind, values, ir.convenience.convert_attributes(attributes), outputs=outputs, name=name)
        self._insert(node)
        return outputs

    def constant(self, array: Array) -> ir.Value:
        """An initializer; equal ones are shared."""
        array = np.asarray(array)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = graph.add_initializer(self.graph, self._name("known"), array)
        return self._constants[key]

    def scalar(self, condition: ir.Value) -> ir.Value:
        """A truth value as a tensor of rank 0, which broadcasts to anything."""
        if condition.shape is not None and len(condition.shape) == 0:
            return condition
        return self.op("Reshape", condition, np.zeros(0, np.int64))

    def choice(self, condition: ir.Value, yes: Result, no: Result) -> Result | None:
        """``yes`` where the condition holds, else ``no``; None for sequences of different lengths."""
        if isinstance(yes, tuple) and isinstance(no, tuple) and len(yes) == len(no):
            pairs = [self.choice(condition, a, b) for a, b in zip(yes, no, strict=True)]
            return tuple(p for p in pairs if isinstance(p, ir.Value))
        if not isinstance(yes, ir.Value) or not isinstance(no, ir.Value):
            return None
        if yes is no:
            return yes
        chosen = self.op("Where", condition, yes, no)
        maker = chosen.producer()
        assert maker is not None
        maker.metadata_props[CHOICE] = "1"
        return chosen

    def _insert(self, node: ir.Node) -> None:
        self._count()
        assert self._anchor is not None
        self.graph.insert_before(self._anchor, node)

    def _count(self) -> None:
        """One more operator or step; what is computed counts too, since it takes time."""
        assert self._anchor is not None
        self._written += 1
        if self._written > LIMIT:
            found = f"more than {LIMIT} operators when written out"
            hint = "export fewer steps, or run the loop in the application"
            raise UnsupportedError(self._anchor.name or "", self._anchor.op_type, "body", found, hint)

    def _name(self, stem: str) -> str:
        name = stem
        while name in self._taken:
            self._counts[stem] += 1  # goes on from the last one: a loop asks for one stem thousands of times
            name = f"{stem}_{self._counts[stem]}"
        self._taken.add(name)
        return name
