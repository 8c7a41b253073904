"""What a row's ``lower`` function works with: physical tensors, views of them, and one node on its way to TFLite.

A TFLite tensor may hold an ONNX value with its axes in another order. ``Layout`` says which: axis i of the tensor is
axis layout[i] of the value; NEW marks an axis of size 1 that the value does not have. Nothing is transposed until an
operator insists on a layout, and then each tensor at most once for each layout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.errors import UnsupportedError

__all__ = [
    "NEW",
    "Layout",
    "Lowering",
    "Operator",
    "Program",
    "Quant",
    "Region",
    "Storage",
    "Tensor",
    "View",
    "identity",
    "mark",
]

Layout = tuple[int, ...]
NEW = -1
Array = npt.NDArray[Any]


def identity(rank: int) -> Layout:
    """The ONNX order itself."""
    return tuple(range(rank))


@dataclass(frozen=True, slots=True, eq=False)
class Quant:
    """scale f32 and zero_point of shape [] or [channels] along ``axis`` (of the array or tensor it belongs to).

    block  of groups: how many values along ``axis`` share a scale; scale then has the array's shape, that axis divided
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int | None = None
    block: int = 0

    def same(self, other: Quant | None) -> bool:
        """Equal numbers?"""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and (self.axis, self.block) == (other.axis, other.block)
        )

    def real(self, integers: Array) -> Array:
        """The numbers that they stand for, f32."""
        if self.block:
            assert self.axis is not None
            places = np.arange(integers.shape[self.axis]) // self.block
            scale, zero = (part.take(places, axis=self.axis) for part in (self.scale, self.zero_point))
        else:
            shape = [-1 if i == self.axis else 1 for i in range(integers.ndim)]
            scale, zero = self.scale.reshape(shape), self.zero_point.reshape(shape)
        result: Array = ((integers.astype(np.int64) - zero) * scale.astype(np.float64)).astype(np.float32)
        return result


@dataclass(frozen=True, slots=True)
class Storage:
    """How a node that does not run on int8 keeps quantized constant weights, and how narrow any node may.

    keeps     "float": as float numbers; "folded": int8 behind a DEQUANTIZE, which XNNPACK computes once; "hybrid":
              integers, for a kernel that quantizes its float input in each run
    few_bits  the plan asked for fewer than 8
    smallest  the file's size matters more than speed
    """

    keeps: Literal["float", "folded", "hybrid"] = "float"
    few_bits: bool = False
    smallest: bool = False


@dataclass(slots=True, eq=False)
class Tensor:
    """A TFLite tensor. ``dynamic``: axes whose size follows the batch (1 in ``shape``)."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    dynamic: frozenset[int] = frozenset()
    quant: Quant | None = None
    data: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An ONNX value as it lies in a tensor."""

    tensor: Tensor
    layout: Layout

    @property
    def axes(self) -> Layout:
        """The value's axes in physical order, NEW ones left out."""
        return tuple(a for a in self.layout if a != NEW)


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One TFLite operator; ``None`` inputs are optional ones left out. ``options``: (table name, fields)."""

    code: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: tuple[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A subgraph of the file. inputs and outputs: (name, tensor); a field of an operator's options may be a Region."""

    name: str
    operators: Sequence[Operator]
    inputs: Sequence[tuple[str, Tensor]]
    outputs: Sequence[tuple[str, Tensor]]
    signature: str = ""


class Program:
    """The operators written so far, and the constants and conversions that they share."""

    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self._names: set[str] = set()
        self._constants: dict[tuple[object, ...], Tensor] = {}
        self._converted: dict[tuple[int, Layout, Layout], View] = {}
        self._recast: dict[tuple[int, np.dtype[Any], str], Tensor] = {}
        self._makers: dict[int, Operator] = {}

    def name(self, stem: str) -> str:
        """``stem``, made unique."""
        name, count = stem, 0
        while name in self._names:
            count += 1
            name = f"{stem}_{count}"
        self._names.add(name)
        return name

    def emit(
        self, code: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], options: str = "", **fields: Any
    ) -> None:
        """Append an operator; ``options`` names the schema's options table."""
        operator = Operator(code, tuple(inputs), tuple(outputs), (options, fields) if options else None)
        self.operators.append(operator)
        for tensor in outputs:
            self._makers[id(tensor)] = operator

    def temp(self, like: Tensor, shape: Sequence[int], dynamic: frozenset[int], stem: str) -> Tensor:
        """A new tensor of the type and quantization of ``like``."""
        return Tensor(self.name(stem), tuple(shape), like.dtype, dynamic, like.quant)

    def constant(self, array: Array, quant: Quant | None = None, stem: str = "constant") -> Tensor:
        """A constant tensor; equal ones are shared."""
        key: tuple[object, ...] = (array.dtype.str, array.dtype.name, array.shape, mark(array))
        if quant is not None:
            key += (quant.scale.tobytes(), quant.zero_point.tobytes(), quant.axis, quant.block)
        if key not in self._constants:
            self._constants[key] = Tensor(self.name(stem), array.shape, array.dtype, frozenset(), quant, array)
        return self._constants[key]

    def recast(self, tensor: Tensor, dtype: np.dtype[Any], code: str = "CAST") -> Tensor:
        """The tensor in another element type by CAST or BITCAST, once for all its readers; constants at once."""
        if tensor.dtype == dtype:
            return tensor
        if tensor.data is not None and code == "CAST":
            return self.constant(tensor.data.astype(dtype), stem=tensor.name)
        key = (id(tensor), dtype, code)
        if key not in self._recast:
            result = Tensor(self.name(f"{tensor.name}/{dtype.name}"), tensor.shape, dtype, tensor.dynamic)
            self.emit(code, [tensor], [result], f"{code.title()}Options")
            self._recast[key] = result
        return self._recast[key]

    def reshape(self, tensor: Tensor, shape: Sequence[int], dynamic: frozenset[int], stem: str = "") -> Tensor:
        """RESHAPE, looking through an earlier one; the tensor itself when nothing changes."""
        tensor = self.behind_reshape(tensor)
        if tensor.shape == tuple(shape) and tensor.dynamic == dynamic:
            return tensor
        if tensor.data is not None:
            return self.constant(tensor.data.reshape(shape), tensor.quant, tensor.name)
        result = self.temp(tensor, shape, dynamic, stem or f"{tensor.name}/reshape")
        self.reshape_into(tensor, result)
        return result

    def behind_reshape(self, tensor: Tensor) -> Tensor:
        """What a RESHAPE that made this tensor read: another RESHAPE can read that as well."""
        maker = self._makers.get(id(tensor))
        if maker is not None and maker.code == "RESHAPE" and maker.inputs[0] is not None:
            return maker.inputs[0]
        return tensor

    def reshape_into(self, tensor: Tensor, result: Tensor) -> None:
        """RESHAPE into a given tensor; at most one axis may follow the batch, written as -1."""
        if tensor.data is not None and tensor.data.size == 0:
            self._fill(result)
            return
        sizes = [-1 if i in result.dynamic else size for i, size in enumerate(result.shape)]
        if sizes.count(-1) > 1 or (-1 in sizes and 0 in sizes):
            found = f"{result.name!r} has the batch in two dimensions, or no elements at all"
            raise UnsupportedError(result.name, "Reshape", "shape", found, "export with a fixed batch")
        target = self.constant(np.asarray(sizes, np.int32), stem="shape")
        self.emit("RESHAPE", [tensor, target], [result], "ReshapeOptions", newShape=sizes)

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any], stem: str) -> Tensor:
        """A tensor without elements: a constant of no bytes would be one without data, which kernels refuse."""
        result = Tensor(self.name(stem), tuple(shape), dtype)
        self._fill(result)
        return result

    def _fill(self, result: Tensor) -> None:
        sizes = self.constant(np.asarray(result.shape, np.int32), stem="shape")
        self.emit("FILL", [sizes, self.constant(np.zeros((), result.dtype))], [result], "FillOptions")

    def convert(self, view: View, layout: Layout) -> View:
        """The same value in another layout: RESHAPE where only axes of size 1 move, else TRANSPOSE."""
        if view.layout == layout:
            return view
        key = (id(view.tensor), view.layout, layout)
        if key not in self._converted:
            self._converted[key] = View(self._arrange(view, layout), layout)
            self._converted[(id(self._converted[key].tensor), layout, view.layout)] = view
        return self._converted[key]

    def effort(self, view: View, layout: Layout) -> int:
        """Of ``convert``: 0 nothing is written, 1 a RESHAPE, 2 a TRANSPOSE that moves whole rows, 3 any other."""
        if view.layout == layout or view.tensor.data is not None or self._known(view, layout):
            return 0
        wanted = [a for a in layout if a in _solid(view)]
        if _solid(view) == wanted:
            return 1
        return 2 if _solid(view)[-1] == wanted[-1] else 3

    def _known(self, view: View, layout: Layout) -> bool:
        return (id(view.tensor), view.layout, layout) in self._converted

    def _arrange(self, view: View, layout: Layout) -> Tensor:
        tensor, axes = view.tensor, view.axes
        size = {a: tensor.shape[i] for i, a in enumerate(view.layout) if a != NEW}
        moves = {a: i in tensor.dynamic for i, a in enumerate(view.layout) if a != NEW}
        shape = [1 if a == NEW else size[a] for a in layout]
        dynamic = frozenset(i for i, a in enumerate(layout) if a != NEW and moves[a])
        wanted = tuple(a for a in layout if a != NEW)
        if tensor.data is not None:
            data = tensor.data.reshape([size[a] for a in axes]).transpose([axes.index(a) for a in wanted])
            return self.constant(data.reshape(shape), _moved(tensor.quant, view.layout, layout), tensor.name)
        solid = _solid(view)
        if solid == [a for a in wanted if a in solid]:
            return self.reshape(tensor, shape, dynamic)
        squeezed = self.reshape(tensor, [size[a] for a in axes], frozenset(i for i, a in enumerate(axes) if moves[a]))
        order = [axes.index(a) for a in wanted]
        turned = self.temp(
            squeezed,
            [size[a] for a in wanted],
            frozenset(i for i, a in enumerate(wanted) if moves[a]),
            f"{tensor.name}/transpose",
        )
        self.emit("TRANSPOSE", [squeezed, self.constant(np.asarray(order, np.int32), stem="order")], [turned],
                  "TransposeOptions")  # fmt: skip
        return self.reshape(turned, shape, dynamic)


def _solid(view: View) -> list[int]:
    """Axes in physical order whose place matters: all but those of size 1."""
    tensor = view.tensor
    return [a for i, a in enumerate(view.layout) if a != NEW and (tensor.shape[i] != 1 or i in tensor.dynamic)]


_HASHED = 1 << 20  # bytes; larger constants are equal only when they are the same memory


def mark(array: Array) -> object:
    """Equal for equal constants, without copying large ones."""
    if array.nbytes > _HASHED:
        return array.__array_interface__["data"][0], array.strides
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes()).digest()


def _moved(quant: Quant | None, old: Layout, new: Layout) -> Quant | None:
    if quant is None or quant.axis is None:
        return quant
    return replace(quant, axis=new.index(old[quant.axis]))


class Values:
    """How the emitter resolves ONNX values; ``Lowering`` asks it. Implemented in exporter.emit.tflite."""

    def view(self, value: ir.Value, *, integer: bool) -> View:
        """The value as a tensor: int8 where ``integer`` and it is quantized, else float."""
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
        """Quantization of the int8 tensor behind a value that a QuantizeLinear reads."""
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

    integer   whether it runs on int8 tensors
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
                found = f"{graph.attribute(self.node, name)!r}, which this operator's translation does not know"
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

    def const(self, index: int) -> Array | None:
        """Numbers of a constant input (dequantized if need be); None when absent or computed."""
        found = self.values.constant(self.node.inputs[index]) if self.has(index) else None
        if found is None:
            return None
        array, quant = found
        return array if quant is None else quant.real(array)

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
        if index == 1 and self.storage.keeps != "float":
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
        dtype = np.dtype(np.int8) if quant is not None else value.dtype.numpy() if value.dtype else np.dtype(np.float32)
        tensor = Tensor(self.program.name(value.name or "value"), sizes, np.dtype(dtype), dynamic, quant)
        self.values.bind(value, View(tensor, layout))
        return tensor

    def alias(self, view: View, index: int = 0) -> None:
        """The output is the input's tensor, seen differently."""
        self.values.bind(self.result if index == 0 else self.node.outputs[index], view)

    def temp(self, like: Tensor, shape: Sequence[int] | None = None, tag: str = "step") -> Tensor:
        """An inner tensor beside ``like``: same type, quantization and batch axes unless ``shape`` differs in rank."""
        sizes = like.shape if shape is None else tuple(shape)
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
