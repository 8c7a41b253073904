"""Moving elements of a type that a kernel does not take: their bits travel in one that it does (BITCAST, exact)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np

from exporter.ops.lowering import Lowering, Tensor

__all__ = ["BYTES", "carried", "delivering"]

BYTES = ("float32", "int32", "int64", "int16", "int8", "uint8", "bool", "float16")  # most kernels that copy take these

_SAME_WIDTH = {1: ("uint8", "int8"), 2: ("int16", "uint16"), 4: ("int32", "uint32"), 8: ("int64", "uint64")}


def _carrier(dtype: np.dtype[np.generic], taken: Collection[str]) -> np.dtype[np.generic]:
    """``dtype`` itself where it is ``taken``, else an integer type of its width."""
    if dtype.name in taken:
        return dtype
    return np.dtype(next(name for name in _SAME_WIDTH[dtype.itemsize] if name in taken))


def carried(ctx: Lowering, tensor: Tensor, taken: Collection[str] = BYTES) -> Tensor:
    """The bits of a tensor in a type of ``taken``; the tensor itself where its own type is one."""
    dtype = _carrier(tensor.dtype, taken)
    if dtype == tensor.dtype:
        return tensor
    if tensor.data is not None:
        return ctx.program.constant(np.ascontiguousarray(tensor.data).view(dtype), stem=tensor.name)
    result = Tensor(ctx.program.name(f"{tensor.name}/bits"), tensor.shape, dtype, tensor.dynamic)
    ctx.emit("BITCAST", [tensor], [result], "BitcastOptions")
    return result


@contextmanager
def delivering(ctx: Lowering, result: Tensor, taken: Collection[str] = BYTES) -> Iterator[Tensor]:
    """Yields the tensor that an operator on carried inputs writes; on leaving, ``result`` has its bits."""
    dtype = _carrier(result.dtype, taken)
    if dtype == result.dtype:
        yield result
        return
    bits = Tensor(ctx.program.name(f"{result.name}/bits"), result.shape, dtype, result.dynamic)
    yield bits
    ctx.emit("BITCAST", [bits], [result], "BitcastOptions")
