"""Chains of TFLite operators inside one translation: what takes several builtins is written like a formula.

    steps = Steps(ctx)
    half = steps.mul(steps.unary("TANH", steps.mul(x, 0.5)), 0.5)
    steps.add(half, 0.5, into=ctx.output(view.layout))

Operands broadcast as in NumPy; a Python number takes the type of the other operand. Each step makes a tensor of its own
unless ``into`` names the one to fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.ops.lowering import Lowering, Tensor

__all__ = ["Operand", "Steps", "broadcast_axes", "options_of"]

Operand = Tensor | float | int | npt.NDArray[Any]

_SHARED_OPTIONS = {"MINIMUM": "MaximumMinimumOptions", "MAXIMUM": "MaximumMinimumOptions"}
_MOST_AXES = 6  # of a tensor that XNNPACK reduces
_FUSING = {"ADD", "SUB", "MUL", "DIV"}  # of the operators below, those whose options hold an activation
_WITHOUT_OPTIONS = {
    "ATAN2", "CEIL", "ELU", "FLOOR", "LOG", "LOGISTIC", "PRELU", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1",
    "ROUND", "RSQRT", "SIN", "SQRT", "TANH",
}  # fmt: skip
_COMPARISONS = {
    "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "LOGICAL_AND", "LOGICAL_OR",
}  # fmt: skip


def options_of(code: str) -> str:
    """Name of the options table of an elementwise builtin, empty when it has none."""
    if code in _WITHOUT_OPTIONS:
        return ""
    return _SHARED_OPTIONS.get(code) or "".join(word.title() for word in code.split("_")) + "Options"


def broadcast_axes(tensors: Sequence[Tensor]) -> tuple[tuple[int, ...], frozenset[int]]:
    """Shape of what the tensors broadcast to, and which of its axes follow the batch."""
    shape = np.broadcast_shapes(*(t.shape for t in tensors))
    dynamic = frozenset(i + len(shape) - len(t.shape) for t in tensors for i in t.dynamic)
    return shape, dynamic


class Steps:
    """The operators of one node, step by step."""

    def __init__(self, ctx: Lowering) -> None:
        self.ctx = ctx

    # -- arithmetic

    def add(self, a: Operand, b: Operand, into: Tensor | None = None) -> Tensor:
        return self.binary("ADD", a, b, into)

    def sub(self, a: Operand, b: Operand, into: Tensor | None = None) -> Tensor:
        return self.binary("SUB", a, b, into)

    def mul(self, a: Operand, b: Operand, into: Tensor | None = None) -> Tensor:
        return self.binary("MUL", a, b, into)

    def div(self, a: Operand, b: Operand, into: Tensor | None = None) -> Tensor:
        return self.binary("DIV", a, b, into)

    def minimum(self, a: Operand, b: Operand, into: Tensor | None = None) -> Tensor:
        return self.binary("MINIMUM", a, b, into)

    def maximum(self, a: Operand, b: Operand, into: Tensor | None = None) -> Tensor:
        return self.binary("MAXIMUM", a, b, into)

    def unary(self, code: str, a: Tensor, into: Tensor | None = None, **fields: Any) -> Tensor:
        """A builtin of one tensor: ABS, EXP, TANH, LOGICAL_NOT …"""
        result = into or self._temp(a.shape, a.dynamic, a.dtype, code)
        self.ctx.emit(code, [a], [result], options_of(code), **fields)
        return result

    def binary(self, code: str, a: Operand, b: Operand, into: Tensor | None = None, **fields: Any) -> Tensor:
        """A builtin of two tensors; comparisons give bool."""
        left, right = self.pair(a, b)
        if into is None:
            kind = np.dtype(np.bool_) if code in _COMPARISONS else left.dtype
            into = self._temp(*broadcast_axes([left, right]), kind, code)
        if code in _FUSING:
            fields.setdefault("fusedActivationFunction", "NONE")
        if code in {"ADD", "SUB"} and into.quant is not None and into.quant.bits == 16:
            fields["potScaleInt16"] = False  # any scales, not powers of two
        self.ctx.emit(code, [left, right], [into], options_of(code), **fields)
        return into

    def select(self, condition: Tensor, a: Operand, b: Operand, into: Tensor | None = None) -> Tensor:
        """a where the condition holds, else b."""
        left, right = self.pair(a, b)
        into = into or self._temp(*broadcast_axes([condition, left, right]), left.dtype, "select")
        self.ctx.emit("SELECT_V2", [condition, left, right], [into], "SelectV2Options")
        return into

    # -- types and shapes

    def cast(self, a: Tensor, dtype: npt.DTypeLike, into: Tensor | None = None) -> Tensor:
        """CAST; the tensor itself where it has that type and nobody asks for another."""
        if into is None:
            return self.ctx.program.recast(a, np.dtype(dtype))
        self.ctx.emit("CAST", [a], [into], "CastOptions")
        return into

    def bitcast(self, a: Tensor, dtype: npt.DTypeLike, into: Tensor | None = None) -> Tensor:
        """BITCAST to a type of the same width."""
        assert np.dtype(dtype).itemsize == a.dtype.itemsize
        if into is None:
            return self.ctx.program.recast(a, np.dtype(dtype), "BITCAST")
        self.ctx.emit("BITCAST", [a], [into], "BitcastOptions")
        return into

    def reduce(
        self, code: str, a: Tensor, places: Sequence[int], into: Tensor | None = None, *, keep: bool = True
    ) -> Tensor:
        """SUM, MEAN, REDUCE_MAX … over physical axes, kept as size 1 or dropped."""
        if into is None:
            left = [i for i in range(len(a.shape)) if keep or i not in places]
            shape = [1 if i in places else a.shape[i] for i in left]
            dynamic = frozenset(n for n, i in enumerate(left) if i in a.dynamic and i not in places)
            into = self._temp(shape, dynamic, a.dtype, code)
        if len(a.shape) > _MOST_AXES:
            self._reduce_merged(code, a, places, into)
        else:
            self.ctx.emit(code, [a, self.ctx.ints(list(places))], [into], "ReducerOptions", keepDims=keep)
        return into

    def _reduce_merged(self, code: str, a: Tensor, places: Sequence[int], into: Tensor) -> None:
        """Neighbouring axes that share their fate become one: XNNPACK fails beyond six."""
        groups: list[list[int]] = []
        for i in range(len(a.shape)):
            if groups and (i in places) == (groups[-1][0] in places):
                groups[-1].append(i)
            else:
                groups.append([i])
        if len(groups) > _MOST_AXES:
            raise self.ctx.refuse(
                "axes", f"{len(groups)} groups of axes in turn", "transpose the reduced axes together"
            )
        shape = [int(np.prod([a.shape[i] for i in group])) for group in groups]
        dynamic = frozenset(n for n, group in enumerate(groups) if a.dynamic.intersection(group))
        merged = self.ctx.program.reshape(a, shape, dynamic)
        gone = [n for n, group in enumerate(groups) if group[0] in places]
        left = [n for n in range(len(groups)) if n not in gone]
        moves = frozenset(i for i, n in enumerate(left) if n in dynamic)
        short = self.ctx.program.temp(into, [shape[n] for n in left], moves, f"{into.name}/merged")
        self.ctx.emit(code, [merged, self.ctx.ints(gone)], [short], "ReducerOptions", keepDims=False)
        self.ctx.program.reshape_into(short, into)

    def pair(self, a: Operand, b: Operand) -> tuple[Tensor, Tensor]:
        """Both as tensors; numbers and arrays become constants of the other's type."""
        like = a if isinstance(a, Tensor) else b
        assert isinstance(like, Tensor), "one operand is a tensor"
        return self._tensor(a, like), self._tensor(b, like)

    def _tensor(self, operand: Operand, like: Tensor) -> Tensor:
        return operand if isinstance(operand, Tensor) else self.ctx.number(operand, like.dtype)

    def _temp(self, shape: Sequence[int], dynamic: frozenset[int], dtype: np.dtype[Any], tag: str) -> Tensor:
        name = self.ctx.program.name(f"{self.ctx.result.name}/{tag.lower()}")
        return Tensor(name, tuple(shape), dtype, dynamic)
