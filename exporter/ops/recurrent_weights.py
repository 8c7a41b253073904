"""The matrices of a recurrent layer as FULLY_CONNECTED reads them: float, or integers that every step shares.

With integers XNNPACK quantizes what a step reads to int8, a scale for each row, and gives float (docs/decisions/0019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exporter.ops.lowering import Array, Lowering, Quant, Tensor
from exporter.ops.steps import Steps
from exporter.ops.stored import weight_tensor

__all__ = ["RECURRENT", "Matrix", "linear", "matrices"]

RECURRENT = frozenset({"RNN", "GRU", "LSTM"})


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """array [rows, columns]; integers with ``quant``, of one scale or one for each row. name: of its tensor."""

    array: Array
    quant: Quant | None
    name: str

    @property
    def rows(self) -> int:
        return int(self.array.shape[0])

    @property
    def columns(self) -> int:
        return int(self.array.shape[1])

    def cut(self, at: int) -> tuple[Matrix, Matrix]:
        """The first ``at`` rows, and the others."""
        first, rest = self._part(0, at), self._part(at, self.rows)
        return Matrix(*first, f"{self.name}/0"), Matrix(*rest, f"{self.name}/1")

    def _part(self, start: int, stop: int) -> tuple[Array, Quant | None]:
        rows, quant = self.array[start:stop], self.quant
        if quant is not None and quant.axis is not None:
            quant = Quant(quant.scale[start:stop], quant.zero_point[start:stop], 0)
        return rows, quant

    def packed(self, ctx: Lowering) -> int:
        """Bytes of a kernel's copy."""
        return self.array.size * (1 if self.quant is not None and ctx.storage.keeps == "hybrid" else 4)


def matrices(ctx: Lowering, index: int, name: str) -> list[Matrix]:
    """Input ``index``, W or R as ONNX calls it, for each direction; refused when it is computed."""
    found, value = ctx.weights(index), ctx.node.inputs[index]
    if found is None or value is None:
        raise ctx.refuse(name, "computed at run time", "make it a constant")
    array, quant = found
    if quant is not None and (quant.block or quant.axis not in {None, 1} or quant.zero_point.any()):
        array, quant = quant.real(array), None
    if quant is not None and quant.axis is not None:
        quant = Quant(quant.scale, quant.zero_point, 0)
    stem = (value.name or name).removesuffix("_dequantized")
    names = [stem] if len(array) == 1 else [f"{stem}/{number}" for number in range(len(array))]
    return [Matrix(part, quant, each) for part, each in zip(array, names, strict=True)]


def linear(steps: Steps, x: Tensor, weight: Matrix, bias: Array | None = None) -> Tensor:
    """FULLY_CONNECTED over the last axis: x [.., columns] -> [.., rows]."""
    ctx = steps.ctx
    shape = (*x.shape[:-1], weight.rows)
    result = Tensor(ctx.program.name(f"{ctx.result.name}/linear"), shape, x.dtype, x.dynamic)
    filters = weight_tensor(ctx, np.ascontiguousarray(weight.array), weight.quant, weight.name, "linear")
    numbers = None if bias is None or not bias.any() else ctx.program.constant(np.ascontiguousarray(bias))
    fields = {"fusedActivationFunction": "NONE", "keepNumDims": len(shape) > 2}
    if filters.quant is not None:
        fields["asymmetricQuantizeInputs"] = True
    ctx.emit("FULLY_CONNECTED", [x, filters, numbers], [result], "FullyConnectedOptions", **fields)
    return result
