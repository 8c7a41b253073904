"""Arithmetic on indices and sizes: constants are computed here, the rest becomes operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from exporter.ops.lowering import Array, Lowering, Tensor

__all__ = ["Integers"]

_OPTIONS = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "FLOOR_MOD": "FloorModOptions",
    "FLOOR_DIV": "FloorDivOptions", "MINIMUM": "MaximumMinimumOptions", "MAXIMUM": "MaximumMinimumOptions",
    "LESS": "LessOptions", "LESS_EQUAL": "LessEqualOptions", "EQUAL": "EqualOptions",
    "GREATER_EQUAL": "GreaterEqualOptions", "LOGICAL_AND": "LogicalAndOptions",
}  # fmt: skip
_NUMPY: dict[str, Callable[..., Any]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "FLOOR_MOD": np.mod, "FLOOR_DIV": np.floor_divide,
    "MINIMUM": np.minimum, "MAXIMUM": np.maximum, "LESS": np.less, "LESS_EQUAL": np.less_equal, "EQUAL": np.equal,
    "GREATER_EQUAL": np.greater_equal, "LOGICAL_AND": np.logical_and,
}  # fmt: skip
_FUSES = {"ADD", "SUB", "MUL"}
_TRUTHS = {"LESS", "LESS_EQUAL", "EQUAL", "GREATER_EQUAL", "LOGICAL_AND"}
_INT_TYPES = {"int32": 2, "int64": 4}  # TensorType


class Integers:
    """Steps on integer tensors of one node. Numbers given in Python take the type of the other operand."""

    def __init__(self, ctx: Lowering) -> None:
        self.ctx = ctx

    def constant(self, values: Any, dtype: Any = np.int32) -> Tensor:
        """A constant tensor."""
        return self.ctx.program.constant(np.asarray(values, dtype), stem="ints")

    def new(self, dtype: Any, shape: Sequence[int], dynamic: frozenset[int] = frozenset(), tag: str = "index") -> Tensor:
        """A tensor yet to be written."""
        name = self.ctx.program.name(f"{self.ctx.result.name}/{tag}")
        return Tensor(name, tuple(shape), np.dtype(dtype), dynamic)

    def binary(self, code: str, a: Tensor, b: Tensor | int | Array) -> Tensor:
        """One of the operators above, with broadcasting."""
        other = b if isinstance(b, Tensor) else self.constant(b, a.dtype)
        if a.data is not None and other.data is not None:
            found = np.asarray(_NUMPY[code](a.data, other.data))
            return self.constant(found, np.bool_ if code in _TRUTHS else a.dtype)
        shape, moves = _joined(a, other)
        result = self.new(np.bool_ if code in _TRUTHS else a.dtype, shape, moves)
        fields = {"fusedActivationFunction": "NONE"} if code in _FUSES else {}
        self.ctx.emit(code, [a, other], [result], _OPTIONS[code], **fields)
        return result

    def wrapped(self, indices: Tensor, length: Tensor | int | Array) -> Tensor:
        """Indices counted from the end made positive; kernels refuse negative ones."""
        return self.binary("FLOOR_MOD", indices, length)

    def select(self, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """``a`` where the condition holds, else ``b``; a constant where all three are."""
        if condition.data is not None and a.data is not None and b.data is not None:
            return self.constant(np.where(condition.data, a.data, b.data), a.dtype)
        shape, moves = _joined(a, b)
        like = Tensor("", shape, a.dtype, moves)
        shape, moves = _joined(condition, like)
        result = self.new(a.dtype, shape, moves)
        self.ctx.emit("SELECT_V2", [condition, a, b], [result], "SelectV2Options")
        return result

    def cast(self, tensor: Tensor, dtype: Any) -> Tensor:
        """CAST; nothing where the type is right already."""
        if tensor.dtype == np.dtype(dtype):
            return tensor
        if tensor.data is not None:
            return self.constant(tensor.data, dtype)
        result = self.new(dtype, tensor.shape, tensor.dynamic)
        self.ctx.emit("CAST", [tensor], [result], "CastOptions")
        return result

    def reshape(self, tensor: Tensor, shape: Sequence[int], dynamic: frozenset[int] = frozenset()) -> Tensor:
        """RESHAPE; an axis that follows the batch is written as -1."""
        return self.ctx.program.reshape(tensor, shape, dynamic)

    def sum_last(self, tensor: Tensor) -> Tensor:
        """Sum over the last axis."""
        if tensor.data is not None:
            return self.constant(tensor.data.sum(-1), tensor.dtype)
        last = len(tensor.shape) - 1
        result = self.new(tensor.dtype, tensor.shape[:-1], tensor.dynamic - {last})
        self.ctx.emit("SUM", [tensor, self.constant([last])], [result], "ReducerOptions", keepDims=False)
        return result

    def lengths(self, tensor: Tensor, places: Sequence[int], dtype: Any = np.int32) -> Tensor:
        """Sizes of the tensor at ``places``, shape [len(places)]; read at run time where one follows the batch."""
        if not tensor.dynamic.intersection(places):
            return self.constant([tensor.shape[p] for p in places], dtype)
        rank = len(tensor.shape)
        whole = self.new(dtype, (rank,), tag="sizes")
        self.ctx.emit("SHAPE", [tensor], [whole], "ShapeOptions", outType=_INT_TYPES[np.dtype(dtype).name])
        if list(places) == list(range(rank)):
            return whole
        picked = self.new(dtype, (len(places),), tag="sizes")
        self.ctx.emit("GATHER", [whole, self.constant(list(places))], [picked], "GatherOptions", axis=0, batchDims=0)
        return picked

    def count(self, tensor: Tensor, places: Sequence[int], dtype: Any = np.int32) -> Tensor:
        """Product of the sizes at ``places``, shape []."""
        sizes = self.lengths(tensor, places, dtype)
        if sizes.data is not None:
            return self.constant(int(np.prod(sizes.data)), dtype)
        result = self.new(dtype, (), tag="count")
        self.ctx.emit("REDUCE_PROD", [sizes, self.constant([0])], [result], "ReducerOptions", keepDims=False)
        return result

    def counting(self, tensor: Tensor, places: Sequence[int]) -> Tensor:
        """0, 1, 2 … up to ``count``, as int32."""
        end = self.count(tensor, places)
        size = int(np.prod([tensor.shape[p] for p in places]))
        if end.data is not None:
            return self.constant(np.arange(size))
        result = self.new(np.int32, (size,), frozenset({0}), tag="counting")
        self.ctx.emit("RANGE", [self.constant(0), end, self.constant(1)], [result], "RangeOptions")
        return result


def _joined(a: Tensor, b: Tensor) -> tuple[tuple[int, ...], frozenset[int]]:
    """Shape and batch axes of what broadcasting makes of two tensors."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    rank = len(shape)
    moves = {rank - len(t.shape) + i for t in (a, b) for i in t.dynamic}
    return shape, frozenset(moves)
