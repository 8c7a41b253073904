"""Look-ups in a table that stays in integers: only the rows that are picked become float numbers."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from exporter.ops.lowering import Array, Lowering, Quant, Tensor
from exporter.ops.stored import BLOCKS

__all__ = ["look_up"]


def look_up(ctx: Lowering, indices: Tensor) -> bool:
    """EMBEDDING_LOOKUP, or GATHER and DEQUANTIZE where the table has one scale; False when the table is no such one.

    indices  positive, in ONNX order
    """
    array, quant = ctx.values.constant(ctx.node.inputs[0]) or (None, None)
    if array is None or quant is None or ctx.storage.keeps == "float":
        return False
    value = ctx.node.inputs[0]
    name = (value.name if value is not None else None) or "table"
    result = ctx.output()
    if quant.axis is None:
        picked = Tensor(ctx.program.name(f"{name}/picked"), result.shape, array.dtype, result.dynamic, quant)
        table = ctx.program.constant(array.astype(np.int8), quant, name)
        ctx.emit("GATHER", [table, indices], [picked], "GatherOptions", axis=0, batchDims=0)
        ctx.emit("DEQUANTIZE", [picked], [result], "DequantizeOptions")
        return True
    table = ctx.program.constant(_narrow(ctx, array, quant), quant, name)
    moves = frozenset({0}) if indices.dynamic else frozenset()
    count = int(np.prod(indices.shape))
    flat = ctx.program.reshape(indices, [count], moves)
    rows = Tensor(ctx.program.name(f"{name}/rows"), (count, array.shape[1]), result.dtype, moves)
    ctx.emit("EMBEDDING_LOOKUP", [flat, table], [rows])
    ctx.program.reshape_into(rows, result)
    return True


def _narrow(ctx: Lowering, array: Array, quant: Quant) -> Array:
    low, high = int(array.min()), int(array.max())
    assert not quant.block or quant.block in BLOCKS
    if ctx.storage.few_bits and low >= -2 and high <= 1 and array.shape[1] % 4 == 0:
        return array.astype(ml_dtypes.int2)
    return array.astype(ml_dtypes.int4) if ctx.storage.few_bits and low >= -8 and high <= 7 else array.astype(np.int8)
