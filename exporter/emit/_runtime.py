"""Numbers that follow the batch, computed at run time from the shape of an input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.emit._batch import Affine, Counting, Law, Rising, Sized, Spread
from exporter.errors import UnsupportedError
from exporter.ops.lowering import Program, Tensor

__all__ = ["Following"]

Array = npt.NDArray[Any]
_TENSOR_TYPES = {"int32": 2, "int64": 4}  # TensorType of the schema


class Following:
    """Writes such numbers, each law once.

    source   an input that follows the batch; set once it is there
    several  do the inputs name more than one dynamic dimension?
    """

    def __init__(self, program: Program, *, several: bool) -> None:
        self.program, self.several = program, several
        self.source: Tensor | None = None
        self._batches: dict[str, Tensor] = {}
        self._affine: dict[tuple[str, tuple[int, ...], bytes, bytes], Tensor] = {}

    def tensor(self, law: Law, dtype: np.dtype[Any], name: str) -> Tensor:
        """The numbers of a law; its axes that grow are dynamic ones."""
        match law:
            case Affine(start, step):
                return self.affine(start.astype(dtype), step.astype(dtype), name)
            case Spread(row, axis, start, step):
                growth = np.zeros(row.ndim, np.int32)
                growth[axis] = step
                fixed = np.asarray(row.shape, np.int32)
                fixed[axis] = start
                sizes = self.affine(fixed, growth, name)
                shape = tuple(start + step if i == axis else n for i, n in enumerate(row.shape))
                result = Tensor(self.program.name(name), shape, dtype, frozenset({axis}))
                self.program.emit("BROADCAST_TO", [self.program.constant(row), sizes], [result], "BroadcastToOptions")
                return result
            case Counting():
                return self._counted(law, dtype, name)
            case Rising(row, stride, axis, start, step):
                kind = dtype if dtype.name in {"int32", "int64"} else np.dtype(np.int32)
                numbers = self._counted(Counting(0, stride, axis, row.ndim, start, step), kind, f"{name}/rise")
                shape = tuple(start + step if i == axis else n for i, n in enumerate(row.shape))
                total = Tensor(self.program.name(name), shape, kind, frozenset({axis}))
                self.program.emit("ADD", [numbers, self.program.constant(row.astype(kind))], [total], "AddOptions",
                                  fusedActivationFunction="NONE")  # fmt: skip
                return self._as(total, dtype)

    def _counted(self, law: Counting, dtype: np.dtype[Any], name: str) -> Tensor:
        kind = dtype if dtype.name in {"int32", "int64", "float32"} else np.dtype(np.int32)
        numbers = [np.asarray(n, kind) for n in (law.first, law.first + law.stride * law.start, law.stride * law.step)]
        end = self.affine(numbers[1], numbers[2], f"{name}/end")
        result = Tensor(self.program.name(name), (law.start + law.step,), kind, frozenset({0}))
        first, stride = (self.program.constant(np.asarray(n, kind)) for n in (law.first, law.stride))
        self.program.emit("RANGE", [first, end, stride], [result], "RangeOptions")
        shape = [law.start + law.step if i == law.axis else 1 for i in range(law.rank)]
        return self.program.reshape(self._as(result, dtype), shape, frozenset({law.axis}))

    def affine(self, start: Array, step: Array, name: str) -> Tensor:
        """start + step x batch, of the shape and type of ``start``; computed as integers."""
        dtype = start.dtype
        key = (dtype.name, start.shape, start.tobytes(), step.tobytes())
        if key not in self._affine:
            kind = dtype if dtype.name in _TENSOR_TYPES else np.dtype(np.int32)
            start, step = start.astype(kind), step.astype(kind)
            batch = self._batch(kind)
            scaled = Tensor(self.program.name(f"{name}/grown"), np.broadcast_shapes(start.shape, (1,)), kind)
            self.program.emit("MUL", [batch, self.program.constant(step)], [scaled], "MulOptions",
                              fusedActivationFunction="NONE")  # fmt: skip
            total = Tensor(self.program.name(f"{name}/size"), scaled.shape, kind)
            self.program.emit("ADD", [scaled, self.program.constant(start)], [total], "AddOptions",
                              fusedActivationFunction="NONE")  # fmt: skip
            self._affine[key] = self._as(self.program.reshape(total, start.shape, frozenset()), dtype)
        return self._affine[key]

    def sizes(self, size: Sized, name: str) -> Tensor:
        """The shape of a value as an int32 vector."""
        growth = [g for g in size.growth if g is not None]
        if len(growth) < len(size.growth):
            raise _refusal(name, "its shape follows the batch by no constant factor")
        if not any(growth):
            return self.program.constant(np.asarray(size.shape, np.int32), stem="shape")
        step = np.asarray(growth, np.int32)
        return self.affine(np.asarray(size.shape, np.int32) - step, step, name)

    def _batch(self, kind: np.dtype[Any]) -> Tensor:
        if self.source is None or self.several:
            raise _refusal("", "the inputs name several dynamic dimensions, and numbers are computed from one of them")
        if kind.name not in self._batches:
            whole = Tensor(self.program.name("batch/sizes"), (len(self.source.shape),), kind)
            self.program.emit("SHAPE", [self.source], [whole], "ShapeOptions", outType=_TENSOR_TYPES[kind.name])
            first = Tensor(self.program.name("batch"), (1,), kind)
            place = min(self.source.dynamic)
            begin, end, one = (self.program.constant(np.asarray([n], np.int32)) for n in (place, place + 1, 1))
            self.program.emit("STRIDED_SLICE", [whole, begin, end, one], [first], "StridedSliceOptions")
            self._batches[kind.name] = first
        return self._batches[kind.name]

    def _as(self, tensor: Tensor, dtype: np.dtype[Any]) -> Tensor:
        if tensor.dtype == dtype:
            return tensor
        result = Tensor(self.program.name(f"{tensor.name}/{dtype.name}"), tensor.shape, dtype, tensor.dynamic)
        self.program.emit("CAST", [tensor], [result], "CastOptions")
        return result


def _refusal(name: str, found: str) -> UnsupportedError:
    return UnsupportedError(name, "tensor", "batch", found, "export with a fixed batch")
