"""All quantization arithmetic, in numpy, bit for bit as the runtimes do it.

real = (q - zero_point) * scale,  q = clamp(round_half_even(real / scale) + zero_point, qmin, qmax)

The division and the rounding are those of ONNX's QuantizeLinear (float32 division, ties to even), which
onnxruntime implements in core/util/qmath.h; zero is always exactly representable (Jacob et al. 2018, eq. 1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import ml_dtypes
import numpy as np
import numpy.typing as npt

from exporter.errors import PlanError
from exporter.types import Codebook, Grain, PerChannel, PerGroup, PerTensor, QParams, Scheme

__all__ = [
    "bias_qparams",
    "centred",
    "codes",
    "dequantize",
    "grouped",
    "neighbours",
    "of_groups",
    "pack_bits",
    "pack_planes",
    "plane_widths",
    "qparams_from_range",
    "qparams_of_least_error",
    "quantize",
    "range_of",
    "round_to",
    "scale_shape",
    "spread",
    "unpack_bits",
]

_Number = TypeVar("_Number", np.float32, np.int32)
_Any = TypeVar("_Any", bound=np.generic)
_Float = npt.NDArray[np.floating]
_SHARES = np.linspace(1.0, 0.2, 65)[1:]
_TINY = np.float32(2.0**-100)  # a range of zero width still needs a positive, invertible scale


def qparams_from_range(low: npt.ArrayLike, high: npt.ArrayLike, scheme: Scheme | Codebook) -> QParams:
    """Scale and zero point that cover [low, high] (shape of the grain's scale), widened to hold 0.

    Codebook: scale = max(|low|, |high|) / largest level. Symmetric: scale = max(|low|, |high|) / qmax.
    Asymmetric: scale = (high - low) / (qmax - qmin), with the zero point rounded to an integer (ties to even).
    """
    low32 = np.minimum(np.asarray(low, np.float64), 0.0)
    high32 = np.maximum(np.asarray(high, np.float64), 0.0)
    if not (np.isfinite(low32).all() and np.isfinite(high32).all()):
        raise PlanError("a range that is infinite or NaN", "look for NaN or infinity in the calibration data")
    if isinstance(scheme, Codebook) or scheme.symmetric:
        top = max(-scheme.qmin if isinstance(scheme, Codebook) else 1, scheme.qmax, 1)
        scale = _finite((np.maximum(-low32, high32) / top).astype(np.float32), low32, high32)
        if isinstance(scheme.grain, PerGroup):
            scale = of_groups(scale)
        return QParams(scheme, scale, np.zeros(scale.shape, np.int32))
    scale = _finite(((high32 - low32) / (scheme.qmax - scheme.qmin)).astype(np.float32), low32, high32)
    if isinstance(scheme.grain, PerGroup):
        scale = of_groups(scale)
    zero = np.rint(scheme.qmin - low32 / scale.astype(np.float64))
    return QParams(scheme, scale, np.clip(zero, scheme.qmin, scheme.qmax).astype(np.int32))


def _finite(
    scale: npt.NDArray[np.float32], low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Not zero, and rounded down where the end of the range would be infinite in float32."""
    scale = np.maximum(scale, _TINY)
    steps = np.rint(np.maximum(-low, high) / scale).astype(np.float32)
    with np.errstate(over="ignore"):
        over = np.isinf(steps * scale)
    return np.where(over, np.nextafter(scale, np.float32(0)), scale)


def of_groups(scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scales of groups are both bfloat16 and float16 numbers: TFLite stores the one and XNNPACK computes the other."""
    kept = scale.astype(ml_dtypes.bfloat16).astype(np.float16).astype(np.float32)
    return np.clip(kept, np.float32(2.0**-24), np.float32(65280.0))


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
            if numbers.shape != scale_shape(shape, grain):
                raise PlanError(f"{list(numbers.shape)} scales for groups of {size} of a tensor of shape {shape}")
            return np.repeat(numbers, size, axis=axis).take(range(shape[axis]), axis=axis)


def quantize(real: _Float, q: QParams) -> npt.NDArray[np.int32]:
    """Integers on the grid (of a codebook: its nearest levels, ties to the lower), i32 of the tensor's own shape."""
    scale = spread(q.scale, real.shape, q.scheme.grain)
    zero = spread(q.zero_point, real.shape, q.scheme.grain)
    return round_to(real, scale, zero, q.scheme)


def round_to(
    real: _Float, scale: npt.NDArray[np.float32], zero: npt.NDArray[np.int32], scheme: Scheme | Codebook
) -> npt.NDArray[np.int32]:
    """``quantize`` with scale and zero point that broadcast against the values."""
    with np.errstate(over="ignore"):  # infinity is clipped like any other value outside the grid
        if isinstance(scheme, Codebook):
            levels = np.asarray(scheme.levels, np.float32)
            place = np.searchsorted((levels[1:] + levels[:-1]) / 2, real.astype(np.float32) / scale)
            return levels.astype(np.int32)[place]
        steps: _Float
        if scheme.bits > 16:  # float32 cannot hold these integers exactly
            steps = np.rint(real.astype(np.float64) / scale.astype(np.float64))
        else:
            steps = np.rint(real.astype(np.float32) / scale)
    steps = np.clip(steps + zero.astype(steps.dtype), scheme.qmin, scheme.qmax)
    return steps.astype(np.int32)


def neighbours(
    real: _Float, scale: npt.NDArray[np.float32], zero: npt.NDArray[np.int32], scheme: Scheme | Codebook
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The integers below and above each value; beyond an end of the grid, the last two. low < high always."""
    steps = real.astype(np.float32) / scale
    if isinstance(scheme, Codebook):
        levels = np.asarray(scheme.levels, np.int32)
        place = np.clip(np.searchsorted(levels, steps, side="right") - 1, 0, len(levels) - 2)
        return levels[place], levels[place + 1]
    low = np.clip(np.floor(steps) + zero, scheme.qmin, scheme.qmax - 1).astype(np.int32)
    return low, low + 1


def dequantize(integers: npt.NDArray[np.integer], q: QParams) -> npt.NDArray[np.float32]:
    """Real values, f32 of the same shape: float32(q - zero_point) * scale, as DequantizeLinear computes it."""
    scale = spread(q.scale, integers.shape, q.scheme.grain)
    zero = spread(q.zero_point, integers.shape, q.scheme.grain)
    wide: npt.NDArray[np.integer] = integers.astype(np.int64 if q.scheme.bits > 16 else np.int32)
    return (wide - zero).astype(np.float32) * scale


def centred(integers: npt.NDArray[np.integer], q: QParams) -> npt.NDArray[np.int8]:
    """integer - zero_point, what an integer kernel multiplies with when its weight's zero point is 0.

    The array itself where there is nothing to do. Raises PlanError where it does not fit in int8: of an asymmetric
    scheme of 8 bits.
    """
    if integers.dtype == np.int8 and not q.zero_point.any():
        return integers.astype(np.int8, copy=False)
    moved = integers.astype(np.int32) - spread(q.zero_point, integers.shape, q.scheme.grain)
    if moved.size and (moved.min() < -128 or moved.max() > 127):
        raise PlanError("an asymmetric weight of 8 bits", "weights of 8 bits are symmetric")
    return moved.astype(np.int8)


def codes(integers: npt.NDArray[np.integer], scheme: Scheme | Codebook) -> npt.NDArray[np.uint8]:
    """What is stored in ``scheme.bits`` bits: integer - qmin, or the index of the level."""
    if isinstance(scheme, Codebook):
        return np.searchsorted(np.asarray(scheme.levels), integers).astype(np.uint8)
    return (integers.astype(np.int32) - scheme.qmin).astype(np.uint8)


def grouped(array: npt.NDArray[_Any], grain: Grain) -> npt.NDArray[_Any]:
    """One row for each scale, in the order of the flattened scale: [scales, values of each].

    Short groups end in zeros.
    """
    match grain:
        case PerTensor():
            return array.reshape(1, -1)
        case PerChannel(axis):
            return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        case PerGroup(axis, size):
            axis %= array.ndim
            missing = -array.shape[axis] % size
            if missing:
                array = np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])
            split = array.reshape(*array.shape[:axis], -1, size, *array.shape[axis + 1 :])
            return np.moveaxis(split, axis + 1, -1).reshape(-1, size)


def scale_shape(shape: tuple[int, ...], grain: Grain) -> tuple[int, ...]:
    """Shape of the scale of a tensor of ``shape``."""
    match grain:
        case PerTensor():
            return ()
        case PerChannel(axis):
            return (shape[axis],)
        case PerGroup(axis, size):
            return tuple(-(-d // size) if i == axis % len(shape) else d for i, d in enumerate(shape))


def range_of(array: _Float, scheme: Scheme | Codebook) -> QParams:
    """Scale and zero point that cover every value."""
    rows, shape = grouped(array, scheme.grain), scale_shape(array.shape, scheme.grain)
    return qparams_from_range(rows.min(axis=1).reshape(shape), rows.max(axis=1).reshape(shape), scheme)


def qparams_of_least_error(array: _Float, scheme: Scheme | Codebook, importance: _Float | None = None) -> QParams:
    """The clipping with the least squared error of rounding to nearest, found by search, for each scale.

    importance  weight of each value's squared error, of the array's shape
    """
    rows = grouped(array, scheme.grain)
    weight = None if importance is None else grouped(importance, scheme.grain)
    each = replace(scheme, grain=PerChannel(0))
    low, high = np.minimum(rows.min(axis=1), 0.0), np.maximum(rows.max(axis=1), 0.0)
    best = qparams_from_range(low, high, each)
    least = _squared_error(rows, best, weight)

    def consider(new_low: _Float, new_high: _Float) -> None:
        nonlocal best, least, low, high
        found = qparams_from_range(new_low, new_high, each)
        error = _squared_error(rows, found, weight)
        better = error < least
        least = np.where(better, error, least)
        low, high = np.where(better, new_low, low), np.where(better, new_high, high)
        scale = np.where(better, found.scale, best.scale)
        best = QParams(each, scale, np.where(better, found.zero_point, best.zero_point))

    whole_low, whole_high = low, high
    for share in _SHARES:
        consider(whole_low * share, whole_high * share)
    if isinstance(scheme, Scheme) and not scheme.symmetric:
        for _ in range(2):  # each end in turn
            kept = low
            for share in _SHARES:
                consider(kept, whole_high * share)
            kept = high
            for share in _SHARES:
                consider(whole_low * share, kept)
    shape = scale_shape(array.shape, scheme.grain)
    scale = of_groups(best.scale) if isinstance(scheme.grain, PerGroup) else best.scale
    return QParams(scheme, scale.reshape(shape), best.zero_point.reshape(shape))


def _squared_error(rows: _Float, q: QParams, weight: _Float | None) -> npt.NDArray[np.float64]:
    error = np.square(dequantize(quantize(rows, q), q) - rows)
    total: npt.NDArray[np.float64] = (error if weight is None else error * weight).sum(axis=1, dtype=np.float64)
    return total


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


def pack_planes(codes: npt.NDArray[np.integer], bits: int) -> npt.NDArray[np.uint8]:
    """Codes of 1 to 8 bits, eight at a time: u8[ceil(n / 8), bits], the last eight filled with zeros.

    ``bits`` is 8 or a sum of 4, 2 and 1; in this order each part takes that many bytes and holds so many bits of all
    eight codes, the lowest first, low bits first within a byte. So it unpacks with shifts of whole arrays, and 1, 2
    and 4 bits lie as in ONNX's uint2 and uint4.
    """
    _check_width(bits)
    flat = np.asarray(codes).reshape(-1)
    rows = np.pad(flat, (0, -flat.size % 8)).reshape(-1, 8).astype(np.uint8)
    parts, shift = [], 0
    for width in plane_widths(bits):
        part = (rows >> np.uint8(shift)) & np.uint8((1 << width) - 1)
        shifts = np.arange(0, 8, width, dtype=np.uint8)
        parts.append((part.reshape(len(rows), width, 8 // width) << shifts).sum(axis=2, dtype=np.uint8))
        shift += width
    return np.concatenate(parts, axis=1) if len(rows) else np.zeros((0, bits), np.uint8)


def plane_widths(bits: int) -> list[int]:
    """The parts of a width: 4, 2 and 1 as they sum up to it; 8 is one part."""
    return [width for width in (8, 4, 2, 1) if bits & width]


def _check_width(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise PlanError(f"packing {bits} bits", "values of 1 to 8 bits are packed")
