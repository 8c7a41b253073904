"""The weights of a node as its TFLite kernel reads them.

What is sound and fast was measured with LiteRT 2.3 (docs/decisions/0009-few-bits-in-tflite.md): FULLY_CONNECTED with
int4 (an even number of inputs), int2 (a multiple of four) and, on float activations, int4 in blocks; convolutions with
int4 are right but three to seven times slower than with int8, so they are for those who want size.
"""

from __future__ import annotations

from typing import Literal

import ml_dtypes
import numpy as np

from exporter.ops.lowering import Array, Lowering, Quant, Tensor

__all__ = ["BLOCKS", "weight_tensor"]

BLOCKS = (32, 64, 128, 256)  # sizes of a group that XNNPACK's kernels take


def weight_tensor(
    ctx: Lowering, array: Array, quant: Quant | None, name: str, kernel: Literal["linear", "convolution"]
) -> Tensor:
    """``array`` laid out for the kernel ([out, in] of a linear layer), quantized or not, as a tensor."""
    if quant is None:
        return ctx.program.constant(array, None, name)
    if ctx.integer or ctx.storage.keeps == "hybrid":
        return ctx.program.constant(_narrow(ctx, array, quant, kernel), quant, name)
    whole = ctx.program.constant(array.astype(np.int8), quant, name)
    return ctx.program.recast(whole, np.dtype(np.float32), "DEQUANTIZE")


def _narrow(ctx: Lowering, array: Array, quant: Quant, kernel: str) -> Array:
    """In the fewest bits that hold the integers, where the plan asked for fewer than 8 and the kernel is sound."""
    source = ctx.input(0).tensor.quant if ctx.integer else None
    if not ctx.storage.few_bits or not array.size or (source is not None and source.bits == 16):
        return array
    array = array.astype(np.int8)
    low, high, columns = int(array.min()), int(array.max()), array.shape[-1]
    in_4_bits = low >= -8 and high <= 7
    if kernel == "convolution":
        return array.astype(ml_dtypes.int4) if ctx.storage.smallest and in_4_bits else array
    if low >= -2 and high <= 1 and columns % 4 == 0 and not quant.block:
        return array.astype(ml_dtypes.int2)
    return array.astype(ml_dtypes.int4) if in_4_bits and columns % 2 == 0 else array
