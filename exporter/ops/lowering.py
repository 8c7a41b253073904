"""What a row's ``lower`` function works with: one node on its way to TFLite, and all that exporter.ops.program has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.errors import UnsupportedError
from exporter.ops.program import (
    NEW,
    Array,
    Layout,
    Operator,
    Program,
    Quant,
    Region,
    Storage,
    Tensor,
    View,
    identity,
    mark,
)

__all__ = [
    "NEW",
    "Array",
    "Layout",
    "Lowering",
    "Operator",
    "Program",
    "Quant",
    "Region",
    "Storage",
    "Tensor",
    "Values",
    "View",
    "identity",
    "mark",
]


class Values:
    """How the emitter resolves ONNX values; ``Lowering`` asks it. Implemented in exporter.emit.tflite."""

    def view(self, value: ir.Value, *, integer: bool) -> View:
        """The value as a tensor: int8 or int16 where ``integer`` and it is quantized, else float."""
        raise NotImplementedError

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """ONNX shape with the batch as 1."""
        raise NotImplementedError

    def dynamic(self, value: ir.Value) -> frozenset[int]:
        """ONNX axes that follow the batch."""
        raise NotImplementedError

    def sizes(self, value: ir.Value) -> Tensor:
        """ONNX shape as an int32 vector, computed at run time where the batch is in it."""
        raise NotImplementedError

    def law(self, value: ir.Value | None) -> tuple[Array, Array] | None:
        """(start, step) of a constant that is start + step x batch; None for any other value."""
        raise NotImplementedError

    def uniform(self, value: ir.Value | None) -> float | None:
        """The number that every element of a constant is, however many the batch makes of it; else None."""
        raise NotImplementedError

    def numbers(self, start: Array, step: Array) -> Tensor:
        """start + step x batch, computed at run time."""
        raise NotImplementedError

    def bind(self, value: ir.Value, view: View) -> None:
        """From now on the value lies there."""
        raise NotImplementedError

    def quant(self, value: ir.Value) -> Quant | None:
        """Quantization of the integer tensor behind a value that a QuantizeLinear reads."""
        raise NotImplementedError

    def constant(self, value: ir.Value | None) -> tuple[Array, Quant | None] | None:
        """Array of a constant (integers and their Quant for a quantized one); None when computed."""
        raise NotImplementedError

    def leads_to(self, value: ir.Value | None, source: ir.Value) -> bool:
        """Is ``value`` the source itself, or what a QuantizeLinear and DequantizeLinear make of it?"""
        raise NotImplementedError

    def flat_order(self, value: ir.Value | None) -> Array | None:
        """For a feature map flattened channels-last: place j holds ONNX element order[j]; else None."""
        raise NotImplementedError

    def set_flat_order(self, value: ir.Value, order: Array) -> None:
        """Record what ``flat_order`` answers for a value just bound."""
        raise NotImplementedError

    def readers(self, value: ir.Value) -> list[ir.Node]:
        """Nodes that read the value, seen through QuantizeLinear and DequantizeLinear."""
        raise NotImplementedError


_PLAIN = Storage()


class Lowering:
    """One node on its way to TFLite.

    integer   whether it runs on int8 or int16 tensors
    result    the ONNX value that its first output stands for (behind a fused activation)
    fused     fused activation function, by schema name
    storage   how it keeps its weights
    """

    def __init__(
        self,
        node: ir.Node,
        program: Program,
        values: Values,
        *,
        integer: bool,
        result: ir.Value,
        fused: str,
        storage: Storage = _PLAIN,
    ) -> None:
        self.node, self.program, self.values, self.storage = node, program, values, storage
        self.integer, self.result, self.fused = integer, result, fused
        self._read: set[str] = set()

    # -- what the node says

    def attr(self, name: str, default: Any = None) -> Any:
        """Attribute as a plain Python value."""
        self._read.add(name)
        return graph.attribute(self.node, name, default)

    def refuse_unread(self, ignored: Collection[str]) -> None:
        """Raise UnsupportedError for an attribute that nobody asked for: its meaning would be lost."""
        for name in self.node.attributes:
            if name not in self._read and name not in ignored:
                value = repr(graph.attribute(self.node, name)).splitlines()[0]
                found = f"{value}, which this operator's translation does not know"
                raise self.refuse(name, found, "leave it out, or leave tflite out of targets.runtimes")

    def has(self, index: int) -> bool:
        """Is optional input ``index`` given?"""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def refuse(self, attribute: str, found: str, hint: str = "") -> UnsupportedError:
        """The error to raise for what TFLite cannot express."""
        return UnsupportedError(self.node.name or "", self.node.op_type, attribute, found, hint)

    def shape(self, index: int) -> tuple[int, ...]:
        """ONNX shape of an input, batch as 1."""
        return self.values.shape(self._value(index))

    def dtype(self, index: int) -> np.dtype[Any]:
        """Element type of an input in the ONNX graph."""
        kind = self._value(index).dtype
        if kind is None:
            raise self.refuse("", f"the element type of input {index} is not known")
        return np.dtype(kind.numpy())

    def out_shape(self, index: int = 0) -> tuple[int, ...]:
        """ONNX shape of an output, batch as 1."""
        return self.values.shape(self.node.outputs[index])

    def keeps_batch(self) -> bool:
        """Do the same axes follow the batch in the first input and in the result?"""
        first = self.node.inputs[0]
        return first is not None and self.values.dynamic(first) == self.values.dynamic(self.result)

    def const(self, index: int) -> Array | None:
        """Numbers of a constant input (dequantized if need be); None when absent or computed."""
        found = self.values.constant(self.node.inputs[index]) if self.has(index) else None
        if found is None:
            return None
        array, quant = found
        return array if quant is None else quant.real(array)

    def for_one(self, index: int) -> Array | None:
        """Like ``const``; of numbers that follow the batch, those for a batch of 1."""
        law = self.values.law(self.node.inputs[index]) if self.has(index) else None
        return self.const(index) if law is None else law[0] + law[1]

    def uniform(self, index: int) -> float | None:
        """The number that every element of a constant is, however many the batch makes of it; else None."""
        return self.values.uniform(self.node.inputs[index]) if self.has(index) else None

    def static(self, index: int, name: str, default: Any = None) -> Any:
        """A constant input as a list of Python numbers, or ``default`` when absent; refused when computed."""
        if not self.has(index):
            return default
        array = self.const(index)
        if array is None:
            raise self.refuse(name, "computed at run time", "TFLite needs it as a constant")
        return array.tolist()

    # -- its tensors

    def input(self, index: int = 0, layout: Layout | None = None) -> View:
        """Input ``index``; converted to ``layout`` when one is given."""
        view = self.values.view(self._value(index), integer=self.integer)
        return view if layout is None else self.program.convert(view, layout)

    def plain(self, index: int = 0) -> Tensor:
        """Input ``index`` in ONNX order."""
        return self.input(index, identity(len(self.shape(index)))).tensor

    def weights(self, index: int) -> tuple[Array, Quant | None] | None:
        """A constant input in ONNX order: integers with their Quant in a node that keeps them, else float numbers."""
        found = self.values.constant(self.node.inputs[index]) if self.has(index) else None
        if found is None or self.integer or found[1] is None:
            return found
        if index in self.storage.inputs and self.storage.keeps != "float":
            return found
        return found[1].real(found[0]), None

    def output(self, layout: Layout | None = None, index: int = 0, shape: Sequence[int] | None = None) -> Tensor:
        """The tensor for an output in ``layout`` (default: ONNX order); ``bind`` is done."""
        value = self.result if index == 0 else self.node.outputs[index]
        own = self.values.shape(value) if shape is None else tuple(shape)
        layout = identity(len(own)) if layout is None else layout
        moves = self.values.dynamic(value)
        sizes = tuple(1 if a == NEW else own[a] for a in layout)
        dynamic = frozenset(i for i, a in enumerate(layout) if a != NEW and a in moves)
        quant = self.values.quant(value) if self.integer else None
        dtype = quant.dtype if quant is not None else value.dtype.numpy() if value.dtype else np.dtype(np.float32)
        tensor = Tensor(self.program.name(value.name or "value"), sizes, np.dtype(dtype), dynamic, quant)
        self.values.bind(value, View(tensor, layout))
        return tensor

    def alias(self, view: View, index: int = 0) -> None:
        """The output is the input's tensor, seen differently."""
        self.values.bind(self.result if index == 0 else self.node.outputs[index], view)

    def temp(self, like: Tensor, shape: Sequence[int] | None = None, tag: str = "step") -> Tensor:
        """An inner tensor beside ``like``: same type, quantization and batch axes unless ``shape`` differs in rank."""
        sizes = like.shape if shape is None else tuple(shape)
        dynamic = like.dynamic
        if shape is not None:
            dynamic = frozenset(a for a in like.dynamic if a < len(sizes) and sizes[a] == 1)
        return self.program.temp(like, sizes, dynamic, f"{self.result.name}/{tag}")

    def emit(
        self, code: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], options: str = "", **fields: Any
    ) -> None:
        """Append an operator."""
        self.program.emit(code, inputs, outputs, options, **fields)

    def number(self, value: Any, dtype: Any = np.float32) -> Tensor:
        """A constant tensor from Python numbers."""
        return self.program.constant(np.asarray(value, dtype))

    def ints(self, values: Any) -> Tensor:
        """A constant int32 tensor."""
        return self.program.constant(np.asarray(values, np.int32), stem="ints")

    def _value(self, index: int) -> ir.Value:
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        if value is None:
            raise self.refuse("", f"input {index} is missing")
        return value
