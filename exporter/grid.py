"""All quantization arithmetic, in numpy, bit for bit as the runtimes do it.

real = (q - zero_point) * scale,  q = clamp(round_half_even(real / scale) + zero_point, qmin, qmax)

The division and the rounding are those of ONNX's QuantizeLinear (float32 division, ties to even), which
onnxruntime implements in core/util/qmath.h; zero is always exactly representable (Jacob et al. 2018, eq. 1).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from exporter.errors import PlanError
from exporter.types import Grain, PerChannel, PerGroup, PerTensor, QParams, Scheme

__all__ = ["bias_qparams", "dequantize", "pack_bits", "qparams_from_range", "quantize", "spread", "unpack_bits"]

_Number = TypeVar("_Number", np.float32, np.int32)
_Float = npt.NDArray[np.floating]
_TINY = np.float32(2.0**-100)  # a range of zero width still needs a positive, invertible scale


def qparams_from_range(low: npt.ArrayLike, high: npt.ArrayLike, scheme: Scheme) -> QParams:
    """Scale and zero point that cover [low, high] (shape of the grain's scale), widened to hold 0.

    Symmetric: scale = max(|low|, |high|) / qmax. Asymmetric: scale = (high - low) / (qmax - qmin), with the
    zero point rounded to an integer (ties to even).
    """
    low32 = np.minimum(np.asarray(low, np.float64), 0.0)
    high32 = np.maximum(np.asarray(high, np.float64), 0.0)
    if not (np.isfinite(low32).all() and np.isfinite(high32).all()):
        raise PlanError("a range that is infinite or NaN", "look for NaN or infinity in the calibration data")
    if scheme.symmetric:
        top = max(scheme.qmax, 1)
        scale = np.maximum((np.maximum(-low32, high32) / top).astype(np.float32), _TINY)
        return QParams(scheme, scale, np.zeros(scale.shape, np.int32))
    scale = np.maximum(((high32 - low32) / (scheme.qmax - scheme.qmin)).astype(np.float32), _TINY)
    zero = np.rint(scheme.qmin - low32 / scale.astype(np.float64))
    return QParams(scheme, scale, np.clip(zero, scheme.qmin, scheme.qmax).astype(np.int32))


def bias_qparams(input_scale: npt.ArrayLike, weight_scale: npt.NDArray[np.float32]) -> QParams:
    """int32 at input scale x weight scale, zero point 0: the accumulator's own grid (both runtimes require it)."""
    scale = np.asarray(input_scale, np.float32) * np.asarray(weight_scale, np.float32)
    grain: Grain = PerTensor() if scale.ndim == 0 else PerChannel(0)
    return QParams(Scheme(32, True, True, grain), np.maximum(scale, _TINY), np.zeros(scale.shape, np.int32))


def spread(numbers: npt.NDArray[_Number], shape: tuple[int, ...], grain: Grain) -> npt.NDArray[_Number]:
    """Scales or zero points shaped so that they broadcast against a tensor of ``shape``."""
    match grain:
        case PerTensor():
            return numbers.reshape(())
        case PerChannel(axis):
            if numbers.shape != (shape[axis],):
                raise PlanError(f"{numbers.shape[0]} scales for axis {axis} of a tensor of shape {shape}")
            return numbers.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
        case PerGroup(axis, size):
            groups = [-(-d // size) if i == axis % len(shape) else d for i, d in enumerate(shape)]
            if numbers.shape != tuple(groups):
                raise PlanError(f"{list(numbers.shape)} scales for groups of {size} of a tensor of shape {shape}")
            return np.repeat(numbers, size, axis=axis).take(range(shape[axis]), axis=axis)


def quantize(real: _Float, q: QParams) -> npt.NDArray[np.int32]:
    """Integers on the grid, i32 of the tensor's own shape."""
    scale = spread(q.scale, real.shape, q.scheme.grain)
    zero = spread(q.zero_point, real.shape, q.scheme.grain)
    steps: _Float
    with np.errstate(over="ignore"):  # infinity is clipped like any other value outside the grid
        if q.scheme.bits > 16:  # float32 cannot hold these integers exactly
            steps = np.rint(real.astype(np.float64) / scale.astype(np.float64))
        else:
            steps = np.rint(real.astype(np.float32) / scale)
    steps = np.clip(steps + zero.astype(steps.dtype), q.scheme.qmin, q.scheme.qmax)
    return steps.astype(np.int32)


def dequantize(integers: npt.NDArray[np.integer], q: QParams) -> npt.NDArray[np.float32]:
    """Real values, f32 of the same shape: float32(q - zero_point) * scale, as DequantizeLinear computes it."""
    scale = spread(q.scale, integers.shape, q.scheme.grain)
    zero = spread(q.zero_point, integers.shape, q.scheme.grain)
    return (integers.astype(np.int64) - zero).astype(np.float32) * scale


def pack_bits(integers: npt.NDArray[np.integer], bits: int) -> npt.NDArray[np.uint8]:
    """Flat, low bits first (as ONNX's and TFLite's int4 and int2): value i takes bits [i*k, i*k + k) of the stream."""
    _check_width(bits)
    lowest = integers.reshape(-1, 1).astype(np.uint8)  # two's complement: the low bits are those of the integer
    return np.packbits(np.unpackbits(lowest, axis=1, count=bits, bitorder="little"), bitorder="little")


def unpack_bits(packed: npt.NDArray[np.uint8], bits: int, count: int, *, signed: bool) -> npt.NDArray[np.int32]:
    """The inverse of pack_bits: i32[count]."""
    _check_width(bits)
    if packed.size * 8 < count * bits:
        raise PlanError(f"{packed.size} bytes for {count} values of {bits} bits", "the data is truncated")
    planes = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    values = np.packbits(planes, axis=1, bitorder="little").reshape(count).astype(np.int32)
    return np.where(values >= 1 << (bits - 1), values - (1 << bits), values) if signed else values


def _check_width(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise PlanError(f"packing {bits} bits", "values of 1 to 8 bits are packed")
