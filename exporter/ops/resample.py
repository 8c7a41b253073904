"""Resampling along one axis: where each output place lies in the input, and with which weights it is read.

Formulas: ONNX Resize (attribute coordinate_transformation_mode); in float32, as ONNX Runtime computes them
(onnxruntime/core/providers/cpu/tensor/upsamplebase.h), since a nearest neighbour hangs on the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from exporter.ops.lowering import Array

__all__ = ["Axis", "Filter", "nearest", "outside", "source", "weights"]


@dataclass(frozen=True, slots=True)
class Axis:
    """``size`` places become ``out``; ``roi``: the part of the axis that is read, 0 to 1."""

    size: int
    out: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Filter:
    """How the places around a coordinate are weighed."""

    mode: str  # linear or cubic
    cubic_a: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False

    @property
    def support(self) -> int:
        """Places to each side that have a weight."""
        return 1 if self.mode == "linear" else 2

    def __call__(self, x: Array) -> Array:
        """Weight at a distance: a triangle, or Keys's cubic (Keys 1981, equation 15)."""
        x, a = np.abs(x), self.cubic_a
        if self.mode == "linear":
            triangle: Array = np.maximum(1 - x, 0)
            return triangle
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0))


_TIE = 1e-6  # ONNX Runtime takes what is this near to a half for one
_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x.astype(np.float64) - 0.5 - _TIE),
    "round_prefer_ceil": lambda x: np.floor(x.astype(np.float64) + 0.5 + _TIE),
    "floor": np.floor,
    "ceil": np.ceil,
}


def source(axis: Axis, places: str) -> Array | None:
    """Coordinate in the input of each output place, float32; None for an unknown mode."""
    one = np.float32
    out, scale = np.arange(axis.out, dtype=np.float32), one(axis.scale)
    match places:
        case "asymmetric":
            return out / scale
        case "half_pixel":
            return (out + one(0.5)) / scale - one(0.5)
        case "pytorch_half_pixel":
            return (out + one(0.5)) / scale - one(0.5) if axis.out > 1 else out * one(0)
        case "align_corners":
            return out * one(axis.size - 1) / one(axis.out - 1) if axis.out > 1 else out * one(0)
        case "half_pixel_symmetric":
            shift = one(axis.size) / one(2) * (one(1) - one(axis.out) / (scale * one(axis.size)))
            wide: Array = (np.float64(shift) + (out + 0.5).astype(np.float64) / np.float64(scale) - 0.5).astype(one)
            return wide  # the one mode for which ONNX Runtime widens
        case "tf_crop_and_resize":
            start, end = map(one, axis.roi)
            if axis.out == 1:
                return out + one(0.5) * (start + end) * one(axis.size - 1)
            return start * one(axis.size - 1) + out * (end - start) * one(axis.size - 1) / one(axis.out - 1)
    return None


def nearest(axis: Axis, x: Array, rounding: str) -> Array | None:
    """The input place that each output place copies; None for an unknown rounding."""
    if rounding not in _ROUNDINGS:
        return None
    if axis.scale == 1 and axis.size == axis.out:
        return np.arange(axis.size)
    return np.clip(_ROUNDINGS[rounding](x), 0, axis.size - 1).astype(np.int64)


def outside(axis: Axis, x: Array) -> Array:
    """Which output places lie outside of the input."""
    return (x < 0) | (x > axis.size - 1)


def weights(axis: Axis, x: Array, kernel: Filter) -> Array:
    """The matrix [out, size] by which the axis is resampled, float64.

    Places beyond the border have the weight of the border, or none and the others sum up to 1.
    """
    scale = min(axis.scale, 1.0) if kernel.antialias else 1.0
    reach = int(np.ceil(kernel.support / scale))
    places = np.floor(x)[:, None].astype(np.int64) + np.arange(-reach, reach + 2)
    found = kernel((places - x.astype(np.float64)[:, None]) * scale)
    if kernel.exclude_outside:
        found = np.where((places < 0) | (places >= axis.size), 0, found)
    if kernel.antialias or kernel.exclude_outside:
        found = found / found.sum(1, keepdims=True)
    matrix = np.zeros((axis.out, axis.size))
    rows = np.arange(axis.out)[:, None]
    np.add.at(matrix, (np.broadcast_to(rows, places.shape), np.clip(places, 0, axis.size - 1)), found)
    return matrix
