"""A TFLite program in the making: physical tensors, views of them, operators.

A TFLite tensor may hold an ONNX value with its axes in another order. ``Layout`` says which: axis i of the tensor is
axis layout[i] of the value; NEW marks an axis of size 1 that the value does not have. Nothing is transposed until an
operator insists on a layout, and then each tensor at most once for each layout.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from exporter.errors import UnsupportedError

__all__ = [
    "NEW",
    "Array",
    "Layout",
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
    bits   of the integers: 16 for int16 activations and constants beside them
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int | None = None
    block: int = 0
    bits: int = 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an activation."""
        return np.dtype(np.int16 if self.bits == 16 else np.int8)

    def same(self, other: Quant | None) -> bool:
        """Equal numbers?"""
        return (
            other is not None
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and (self.axis, self.block, self.bits) == (other.axis, other.block, other.bits)
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
    inputs    where the node reads such weights
    """

    keeps: Literal["float", "folded", "hybrid"] = "float"
    few_bits: bool = False
    smallest: bool = False
    inputs: tuple[int, ...] = (1,)


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
        self._counts: Counter[str] = Counter()
        self._constants: dict[tuple[object, ...], Tensor] = {}
        self._converted: dict[tuple[int, Layout, Layout], View] = {}
        self._recast: dict[tuple[int, np.dtype[Any], str], Tensor] = {}
        self._makers: dict[int, Operator] = {}

    def name(self, stem: str) -> str:
        """``stem``, made unique."""
        name = stem
        while name in self._names:
            self._counts[stem] += 1  # goes on from the last one: some stems are asked for thousands of times
            name = f"{stem}_{self._counts[stem]}"
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
            key += (quant.scale.tobytes(), quant.zero_point.tobytes(), quant.axis, quant.block, quant.bits)
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
    """Equal for equal constants, without copying large ones.

    Large narrow ones are hashed too: each graph that shares a weight makes its own array of integers, and of scales.
    """
    if array.nbytes > _HASHED:
        for name, view in (("rows", array), ("columns", array.T)):
            if array.dtype.itemsize <= 2 and view.flags.c_contiguous:
                return name, hashlib.blake2b(view.view(np.uint8).data).digest()
        return array.__array_interface__["data"][0], array.strides
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes()).digest()


def _moved(quant: Quant | None, old: Layout, new: Layout) -> Quant | None:
    if quant is None or quant.axis is None:
        return quant
    return replace(quant, axis=new.index(old[quant.axis]))
