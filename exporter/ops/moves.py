"""Moving whole tensors inside one translation: cut, padded, joined, picked, turned.

Like ``Steps`` for arithmetic. Widths, axes and shapes are those of the TFLite tensor. Each move makes a tensor of its
own, of the type and quantization of what it moves, unless ``into`` names the one to fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.ops.lowering import Lowering, Tensor

__all__ = ["Moves"]

Widths = Sequence[tuple[int, int]]


class Moves:
    """The moves of one node, one by one."""

    def __init__(self, ctx: Lowering) -> None:
        self.ctx = ctx

    def reshape(
        self, a: Tensor, shape: Sequence[int], dynamic: frozenset[int] | None = None, into: Tensor | None = None
    ) -> Tensor:
        """RESHAPE; unless told, the first axis follows the batch as before."""
        if into is not None:
            self.ctx.program.reshape_into(self.ctx.program.behind_reshape(a), into)
            return into
        return self.ctx.program.reshape(a, shape, a.dynamic if dynamic is None else dynamic)

    def transpose(self, a: Tensor, order: Sequence[int], into: Tensor | None = None) -> Tensor:
        """TRANSPOSE: axis i of the result is axis order[i] of ``a``."""
        dynamic = frozenset(i for i, axis in enumerate(order) if axis in a.dynamic)
        into = into or self.temp(a, [a.shape[i] for i in order], dynamic, "transpose")
        self.ctx.emit("TRANSPOSE", [a, self.ctx.ints(list(order))], [into], "TransposeOptions")
        return into

    def cut(
        self,
        a: Tensor,
        begin: Sequence[int],
        shape: Sequence[int],
        strides: Sequence[int] | None = None,
        into: Tensor | None = None,
    ) -> Tensor:
        """STRIDED_SLICE of ``shape`` from ``begin`` on; axes that follow the batch are taken whole."""
        strides = [1] * len(shape) if strides is None else list(strides)
        if into is None and tuple(shape) == a.shape and set(strides) == {1}:
            return a
        into = into or self.temp(a, shape, a.dynamic, "cut")
        end = [b + (n - 1) * s + 1 for b, n, s in zip(begin, shape, strides, strict=True)]
        mask = sum(1 << i for i in a.dynamic)
        numbers = [self.ctx.ints(list(begin)), self.ctx.ints(end), self.ctx.ints(strides)]
        self.ctx.emit("STRIDED_SLICE", [a, *numbers], [into], "StridedSliceOptions", beginMask=mask, endMask=mask)
        return into

    def crop(self, a: Tensor, widths: Widths, into: Tensor | None = None) -> Tensor:
        """Take (begin, end) places away from each axis."""
        shape = [n - b - e for n, (b, e) in zip(a.shape, widths, strict=True)]
        return self.cut(a, [b for b, _ in widths], shape, into=into)

    def pad(self, a: Tensor, widths: Widths, filler: Tensor | None = None, into: Tensor | None = None) -> Tensor:
        """PAD with zero (its zero point), or PADV2 with ``filler``; a negative width crops."""
        if any(w < 0 for pair in widths for w in pair):
            away = [(max(-b, 0), max(-e, 0)) for b, e in widths]
            widths = [(max(b, 0), max(e, 0)) for b, e in widths]
            if not any(map(any, widths)):
                return self.crop(a, away, into)
            a = self.crop(a, away)
        if into is None and not any(map(any, widths)):
            return a
        shape = [n + b + e for n, (b, e) in zip(a.shape, widths, strict=True)]
        into = into or self.temp(a, shape, a.dynamic, "pad")
        table = self.ctx.ints([list(w) for w in widths])
        if filler is None:
            self.ctx.emit("PAD", [a, table], [into], "PadOptions")
        else:
            self.ctx.emit("PADV2", [a, table, filler], [into], "PadV2Options")
        return into

    def gather(
        self,
        a: Tensor,
        indices: Tensor | npt.NDArray[Any],
        axis: int,
        *,
        batch_dims: int = 0,
        into: Tensor | None = None,
    ) -> Tensor:
        """GATHER of places along an axis; constant indices are an array of any shape."""
        if not isinstance(indices, Tensor):
            if into is None and indices.ndim == 1 and np.array_equal(indices, np.arange(a.shape[axis])):
                return a
            indices = self.ctx.ints(indices)
        picked = indices.shape[batch_dims:]
        shape = (*a.shape[:axis], *picked, *a.shape[axis + 1 :])
        shift = len(picked) - 1
        dynamic = frozenset(i if i < axis else i + shift for i in a.dynamic)
        dynamic |= {i + axis - batch_dims for i in indices.dynamic if i >= batch_dims}
        into = into or self.temp(a, shape, dynamic, "gather")
        self.ctx.emit("GATHER", [a, indices], [into], "GatherOptions", axis=axis, batchDims=batch_dims)
        return into

    def join(self, parts: Sequence[Tensor], axis: int, into: Tensor | None = None) -> Tensor:
        """CONCATENATION."""
        if len(parts) == 1 and into is None:
            return parts[0]
        shape = list(parts[0].shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        into = into or self.temp(parts[0], shape, parts[0].dynamic, "join")
        self.ctx.emit("CONCATENATION", parts, [into], "ConcatenationOptions", axis=axis,
                      fusedActivationFunction="NONE")  # fmt: skip
        return into

    def temp(self, like: Tensor, shape: Sequence[int], dynamic: frozenset[int], tag: str) -> Tensor:
        """An inner tensor of the type and quantization of ``like``."""
        return self.ctx.program.temp(like, shape, dynamic, f"{self.ctx.result.name}/{tag}")
