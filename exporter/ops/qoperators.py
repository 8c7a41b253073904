"""Operators that multiply integers themselves, written with DequantizeLinear and QuantizeLinear around a float one,
or with float products that are exact because no sum passes 2^24."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.ops.expansion import Expansion, Operand
from exporter.ops.op import Float, InputRole, Op
from exporter.ops.quantizing import limits

__all__ = ["ROWS", "centred", "dequantized", "flat_of", "quantized", "scale_of"]

Array = npt.NDArray[Any]
_EXACT = 1 << 24  # float32 holds every integer up to here


def qlinear_matmul(e: Expansion) -> None:
    """QuantizeLinear(MatMul(DequantizeLinear(a), DequantizeLinear(b)))."""
    left, right = dequantized(e, 0, -2), dequantized(e, 3, -1)
    e.finish(quantized(e, e.op("MatMul", left, right), 6))


def qlinear_conv(e: Expansion) -> None:
    """The same around a Conv; the bias is int32 at the scale of the accumulator."""
    inputs = [dequantized(e, 0, 1), dequantized(e, 3, 0)]
    if e.has(8):
        first, second = scale_of(e, 1), scale_of(e, 4)
        product = first * second if isinstance(first, np.ndarray) and isinstance(second, np.ndarray) else None
        scale: Operand = e.op("Mul", first, second) if product is None else product.astype(np.float32)
        zero = np.zeros(np.shape(product) if product is not None else (), np.int32)
        inputs.append(e.op("DequantizeLinear", e.input(8), scale, zero, axis=0))
    e.finish(quantized(e, e.op("Conv", *inputs, **_conv_attributes(e)), 6))


def matmul_integer(e: Expansion) -> None:
    """Sums over parts of the shared axis that float32 holds exactly, added up as int32."""
    if _unknown(e):
        return
    left, right = centred(e, 0, 2, -2), centred(e, 1, 3, -1)
    depth = e.shape(0)[-1]
    if depth is None:
        raise e.refuse("A", "the size of its last axis is not known", "fix all shapes")
    axis = len(e.shape(1)) - 2 if len(e.shape(1)) > 1 else 0
    parts = -(-depth * _largest(e, 0, 2) * _largest(e, 1, 3) // _EXACT)
    e.finish(
        _summed(e, _split(e, left, len(e.shape(0)) - 1, depth, parts), _split(e, right, axis, depth, parts), "MatMul")
    )


def conv_integer(e: Expansion) -> None:
    """The same over input channels."""
    if _unknown(e):
        return
    image, weight = centred(e, 0, 2, 1), centred(e, 1, 3, 0)
    shape, group = e.sizes(1), e.attr("group", 1)
    depth = int(np.prod(shape[1:]))
    parts = -(-depth * _largest(e, 0, 2) * _largest(e, 1, 3) // _EXACT)
    attributes = _conv_attributes(e)
    if parts > 1 and (group > 1 or parts > shape[1]):
        raise e.refuse("w", f"{depth} products in each sum", f"up to {_EXACT // 255**2} work in groups")
    images, weights = _split(e, image, 1, shape[1] * group, parts), _split(e, weight, 1, shape[1], parts)
    e.finish(_summed(e, images, weights, "Conv", **attributes))


def _conv_attributes(e: Expansion) -> dict[str, Any]:
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    return {name: value for name in names if (value := e.attr(name)) is not None}


# -- integers as they are


def _unknown(e: Expansion) -> bool:
    """Is a shape missing, which inference may find before the next round?"""
    return any(graph.shape_of(e.input(index)) is None for index in (0, 1))


def _summed(e: Expansion, left: list[Operand], right: list[Operand], kind: str, **attributes: Any) -> ir.Value:
    total = None
    for a, b in zip(left, right, strict=True):
        part = e.op("Cast", e.op(kind, a, b, **attributes), to=int(ir.DataType.INT32))
        total = part if total is None else e.op("Add", total, part)
    assert total is not None
    return total


def _split(e: Expansion, x: Operand, axis: int, size: int, parts: int) -> list[Operand]:
    if parts == 1:
        return [x]
    step = -(-size // parts)
    cuts = [(start, min(start + step, size)) for start in range(0, size, step)]
    if isinstance(x, np.ndarray):
        return [np.take(x, np.arange(*cut), axis) for cut in cuts]
    lengths = np.asarray([end - start for start, end in cuts], np.int64)
    return list(e.ops("Split", len(cuts), x, lengths, axis=axis))


def centred(e: Expansion, index: int, zero_index: int, axis: int) -> Operand:
    """Input minus its zero point, in float32; several zero points lie along ``axis``."""
    array, zero = e.const(index), e.const(zero_index)
    rank = len(e.shape(index))
    places = [-1 if i == axis % rank else 1 for i in range(rank)]
    if zero is not None:
        zero = zero.astype(np.float32).reshape(places if zero.ndim == 1 and zero.size > 1 else zero.shape)
        zero = zero.reshape(()) if zero.size == 1 else zero
    if array is not None and (zero is not None or not e.has(zero_index)):
        return array.astype(np.float32) - (0 if zero is None else zero)
    real = e.op("Cast", e.input(index), to=int(ir.DataType.FLOAT))
    if not e.has(zero_index) or (zero is not None and not np.any(zero)):
        return real
    if zero is not None:
        return e.op("Sub", real, zero)
    offset = e.op("Cast", e.input(zero_index), to=int(ir.DataType.FLOAT))
    return e.op("Sub", real, e.reshape(offset, places) if len(e.shape(zero_index)) == 1 else offset)


def _largest(e: Expansion, index: int, zero_index: int) -> int:
    """Bound of |input - zero point|."""
    kind = e.input(index).dtype
    assert kind is not None
    low, high = limits(np.dtype(kind.numpy()))
    array, zero = e.const(index), e.const(zero_index)
    if array is not None and array.size:
        low, high = int(array.min()), int(array.max())
    if not e.has(zero_index):
        return max(-low, high, 1)
    least, most = (low, high) if zero is None or not zero.size else (int(zero.min()), int(zero.max()))
    return max(high - least, most - low, 1)


# -- integers with a scale


def dequantized(e: Expansion, index: int, axis: int = 1) -> ir.Value:
    """DequantizeLinear of input ``index``, its scale and zero point after it; weights have zero point 0 if they fit."""
    value, scale, array, zero = e.input(index), scale_of(e, index + 1), e.const(index), e.const(index + 2)
    stored: Operand = value
    if array is not None and zero is not None:
        axis = axis % array.ndim if array.ndim else 0
        spread = zero.reshape([-1 if i == axis else 1 for i in range(array.ndim)]) if zero.size > 1 else flat(zero)
        moved = array.astype(np.int32) - spread.astype(np.int32)
        if moved.min() >= -128 and moved.max() <= 127:
            stored, zero = moved.astype(np.int8), np.zeros(np.shape(scale), np.int8)
    offset = e.input(index + 2) if zero is None else flat(zero)
    return e.op("DequantizeLinear", stored, scale, offset, axis=axis)


def quantized(e: Expansion, x: ir.Value, index: int) -> ir.Value:
    """QuantizeLinear by the scale and zero point at ``index``."""
    return e.op("QuantizeLinear", x, scale_of(e, index), flat_of(e, index + 1))


def scale_of(e: Expansion, index: int) -> Any:
    """float32, of shape [] for one number."""
    array = e.const(index)
    if array is not None:
        return flat(array).astype(np.float32)
    value = e.input(index)
    return value if value.dtype == ir.DataType.FLOAT else e.op("Cast", value, to=int(ir.DataType.FLOAT))


def flat_of(e: Expansion, index: int) -> Operand:
    """A zero point, of shape [] for one number."""
    zero = e.const(index)
    return e.input(index) if zero is None else flat(zero)


def flat(array: Array) -> Array:
    return array.reshape(()) if array.size == 1 else array


_INTEGERS = Float("computes on integers by itself")
_BYTES = ("int8", "uint8")
_MATMUL: tuple[InputRole, ...] = ("activation", "static", "static", "activation", "static")
_CONV: tuple[InputRole, ...] = (
    "activation",
    "static",
    "static",
    "activation",
    "static",
    "static",
    "static",
    "static",
    "static",
)
_PLAIN: tuple[InputRole, ...] = ("activation", "activation", "static")

ROWS = (
    Op("QLinearMatMul", _INTEGERS, _MATMUL, expand=qlinear_matmul, types=_BYTES),
    Op("QLinearConv", _INTEGERS, _CONV, expand=qlinear_conv, types=_BYTES),
    Op("MatMulInteger", _INTEGERS, _PLAIN, expand=matmul_integer, types=_BYTES),
    Op("ConvInteger", _INTEGERS, _PLAIN, expand=conv_integer, types=_BYTES),
)
