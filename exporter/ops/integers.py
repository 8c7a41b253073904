"""Arithmetic on indices and sizes: what is constant is computed here, the rest becomes steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.ops.lowering import Array, Lowering, Tensor
from exporter.ops.steps import Steps

__all__ = ["Integers"]

_NUMPY: dict[str, Callable[..., Any]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "FLOOR_MOD": np.mod, "MINIMUM": np.minimum,
    "MAXIMUM": np.maximum, "LESS": np.less, "LESS_EQUAL": np.less_equal, "GREATER_EQUAL": np.greater_equal,
    "LOGICAL_AND": np.logical_and,
}  # fmt: skip
_TENSOR_TYPES = {"int32": 2, "int64": 4}  # TensorType of the schema


class Integers:
    """Steps on integer tensors of one node. Python numbers take the type of the other operand."""

    def __init__(self, ctx: Lowering) -> None:
        self.ctx, self.steps = ctx, Steps(ctx)

    def constant(self, values: Any, dtype: npt.DTypeLike = np.int32) -> Tensor:
        """A constant tensor."""
        return self.ctx.program.constant(np.asarray(values, dtype), stem="ints")

    def new(
        self, dtype: npt.DTypeLike, shape: Sequence[int], dynamic: frozenset[int] = frozenset(), tag: str = "index"
    ) -> Tensor:
        """A tensor yet to be written."""
        return Tensor(self.ctx.program.name(f"{self.ctx.result.name}/{tag}"), tuple(shape), np.dtype(dtype), dynamic)

    def binary(self, code: str, a: Tensor, b: Tensor | int | Array) -> Tensor:
        """One of the operators above, with broadcasting."""
        left, right = self.steps.pair(a, b)
        if left.data is None or right.data is None:
            return self.steps.binary(code, left, right)
        found = np.asarray(_NUMPY[code](left.data, right.data))
        return self.constant(found, found.dtype)

    def wrapped(self, indices: Tensor, length: Tensor | int | Array) -> Tensor:
        """Indices counted from the end made positive: kernels refuse negative ones."""
        return self.binary("FLOOR_MOD", indices, length)

    def select(self, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """``a`` where the condition holds, else ``b``."""
        if condition.data is None or a.data is None or b.data is None:
            return self.steps.select(condition, a, b)
        return self.constant(np.where(condition.data, a.data, b.data), a.dtype)

    def cast(self, tensor: Tensor, dtype: npt.DTypeLike) -> Tensor:
        """CAST; nothing where the type is right already."""
        return self.steps.cast(tensor, dtype) if tensor.data is None else self.constant(tensor.data, dtype)

    def reshape(self, tensor: Tensor, shape: Sequence[int], dynamic: frozenset[int] = frozenset()) -> Tensor:
        """RESHAPE; an axis that follows the batch is written as -1."""
        return self.ctx.program.reshape(tensor, shape, dynamic)

    def sum_last(self, tensor: Tensor) -> Tensor:
        """Sum over the last axis, dropped."""
        if tensor.data is not None:
            return self.constant(tensor.data.sum(-1), tensor.dtype)
        return self.steps.reduce("SUM", tensor, [len(tensor.shape) - 1], keep=False)

    def lengths(self, tensor: Tensor, places: Sequence[int], dtype: npt.DTypeLike = np.int32) -> Tensor:
        """Sizes of the tensor at ``places``, shape [len(places)]; read at run time where one follows the batch."""
        if not tensor.dynamic.intersection(places):
            return self.constant([tensor.shape[p] for p in places], dtype)
        rank = len(tensor.shape)
        whole = self.new(dtype, (rank,), tag="sizes")
        self.ctx.emit("SHAPE", [tensor], [whole], "ShapeOptions", outType=_TENSOR_TYPES[np.dtype(dtype).name])
        if list(places) == list(range(rank)):
            return whole
        picked = self.new(dtype, (len(places),), tag="sizes")
        self.ctx.emit("GATHER", [whole, self.constant(list(places))], [picked], "GatherOptions", axis=0, batchDims=0)
        return picked

    def count(self, tensor: Tensor, places: Sequence[int]) -> Tensor:
        """Product of the sizes at ``places``, int32 of shape []."""
        sizes = self.lengths(tensor, places)
        if sizes.data is not None:
            return self.constant(int(np.prod(sizes.data)))
        return self.steps.reduce("REDUCE_PROD", sizes, [0], keep=False)

    def counting(self, tensor: Tensor, places: Sequence[int]) -> Tensor:
        """0, 1, 2 … up to ``count``, int32."""
        end = self.count(tensor, places)
        size = int(np.prod([tensor.shape[p] for p in places]))
        if end.data is not None:
            return self.constant(np.arange(size))
        result = self.new(np.int32, (size,), frozenset({0}), tag="counting")
        self.ctx.emit("RANGE", [self.constant(0), end, self.constant(1)], [result], "RangeOptions")
        return result
