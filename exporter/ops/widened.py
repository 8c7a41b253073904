"""Element types that TFLite's kernels lack: inputs are turned into one that they take, and the result back.

``Turns`` says for each such type how: CAST to a wider type, BITCAST to one of the same width, or ORDER, a BITCAST to
int64 and a shift by -2^63 that keeps the order of uint64. Sums and products of integers wrap around as ONNX Runtime's
do, because they are right modulo a power of two in any wider type as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from exporter.ops.lowering import Array, Layout, Lowering, Quant, Tensor, View

__all__ = ["BOUNDS", "BOUNDS_TAKE", "EXACT", "ORDER", "REAL", "REALS", "RING", "Lower", "Turns", "widened"]

Lower = Callable[[Lowering], None]
Turns = Mapping[str, tuple[Literal["CAST", "BITCAST", "ORDER"], str]]

REAL: Turns = {"float16": ("CAST", "float32"), "bfloat16": ("CAST", "float32")}
REALS = ("float32", *REAL)
_SMALL: Turns = dict.fromkeys(("int8", "uint8", "int16", "uint16"), ("CAST", "int32"))
# for +, -, * and bits: any type of the same width will do
RING: Turns = {**REAL, **_SMALL, "uint32": ("BITCAST", "int32"), "uint64": ("BITCAST", "int64")}
# for <, minimum, maximum: the order is kept
ORDER: Turns = {**REAL, **_SMALL, "uint32": ("CAST", "int64"), "uint64": ("ORDER", "int64")}
# for MINIMUM and MAXIMUM, which take small integers as they are, and the types that come so
BOUNDS: Turns = {name: turn for name, turn in ORDER.items() if name not in {"int8", "uint8", "int16"}}
BOUNDS_TAKE = ("float32", "int32", "int64", *ORDER)
# for what needs the very numbers; uint64 has no place
EXACT: Turns = {**REAL, **_SMALL, "uint32": ("CAST", "int64")}

_LOWEST = np.iinfo(np.int64).min


def widened(lower: Lower, turns: Turns) -> Lower:
    """``lower``, given wider types wherever an input or output is of a type in ``turns``."""

    def outer(ctx: Lowering) -> None:
        if ctx.integer:
            lower(ctx)
            return
        inner = _Widened(ctx, turns)
        lower(inner)
        inner.finish()

    return outer


class _Widened(Lowering):
    """A node whose tensors seem to be of wider types."""

    def __init__(self, outer: Lowering, turns: Turns) -> None:
        super().__init__(
            outer.node,
            outer.program,
            outer.values,
            integer=False,
            result=outer.result,
            fused=outer.fused,
            storage=outer.storage,
        )
        self._read = outer._read
        self.turns = turns
        self._back: list[tuple[Tensor, Tensor, str]] = []

    def input(self, index: int = 0, layout: Layout | None = None) -> View:
        """As it is, or turned."""
        view = super().input(index, layout)
        turn = self.turns.get(view.tensor.dtype.name)
        return view if turn is None else View(self._turned(view.tensor, *turn), view.layout)

    def const(self, index: int) -> Array | None:
        """As it is, or turned."""
        array = super().const(index)
        turn = None if array is None else self.turns.get(array.dtype.name)
        return array if array is None or turn is None else _turned(array, *turn)

    def weights(self, index: int) -> tuple[Array, Quant | None] | None:
        """As they are, or turned; integers with a scale stay what they are."""
        found = super().weights(index)
        turn = None if found is None or found[1] is not None else self.turns.get(found[0].dtype.name)
        return found if found is None or turn is None else (_turned(found[0], *turn), found[1])

    def output(self, layout: Layout | None = None, index: int = 0, shape: Sequence[int] | None = None) -> Tensor:
        """The tensor itself, or a wider one in front of it."""
        real = super().output(layout, index, shape)
        turn = self.turns.get(real.dtype.name)
        if turn is None:
            return real
        how, kind = turn
        wide = Tensor(self.program.name(f"{real.name}/{kind}"), real.shape, np.dtype(kind), real.dynamic)
        self._back.append((wide, real, how))
        return wide

    def alias(self, view: View, index: int = 0) -> None:
        """The input's tensor, turned back where need be."""
        wide = self.output(view.layout, index)
        if self._back and self._back[-1][0] is wide:
            self._back[-1] = (view.tensor, *self._back[-1][1:])
        else:
            super().alias(view, index)

    def finish(self) -> None:
        """Turn the outputs back."""
        for wide, real, how in self._back:
            source = wide
            if how == "ORDER":
                source = self.program.temp(wide, wide.shape, wide.dynamic, f"{real.name}/bits")
                self._shift(wide, source)
            self.emit("CAST" if how == "CAST" else "BITCAST", [source], [real], _OPTIONS[how])

    def _turned(self, tensor: Tensor, how: str, kind: str) -> Tensor:
        if tensor.data is not None:
            return self.program.constant(_turned(tensor.data, how, kind), stem=tensor.name)
        if how != "ORDER":
            return self.program.recast(tensor, np.dtype(kind), how)
        bits = self.program.recast(tensor, np.dtype(kind), "BITCAST")
        shifted = self.program.temp(bits, bits.shape, bits.dynamic, f"{tensor.name}/order")
        self._shift(bits, shifted)
        return shifted

    def _shift(self, source: Tensor, target: Tensor) -> None:
        """Flips the highest bit."""
        lowest = self.number(_LOWEST, np.int64)
        self.emit("ADD", [source, lowest], [target], "AddOptions", fusedActivationFunction="NONE")


_OPTIONS = {"CAST": "CastOptions", "BITCAST": "BitcastOptions", "ORDER": "BitcastOptions"}


def _turned(array: Array, how: str, kind: str) -> Array:
    if how == "CAST":
        return array.astype(kind)
    bits: Array = np.ascontiguousarray(array).view(kind).reshape(array.shape)
    return bits if how == "BITCAST" else bits ^ _LOWEST
