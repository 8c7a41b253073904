"""Resampling of feature maps."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from exporter.ops.lowering import Array, Lowering, Tensor
from exporter.ops.op import Op, Same

__all__ = ["ROWS"]

_LAYOUT = (0, 2, 3, 1)


def resize(ctx: Lowering) -> None:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR where they sample the same places, else GATHER of rows and columns."""
    shape, target = ctx.shape(0), ctx.out_shape()
    if len(shape) != 4 or shape[:2] != target[:2]:
        raise ctx.refuse("", f"from {shape} to {target}", "resize height and width of a 4-d tensor")
    mode, places = ctx.attr("mode", "nearest"), ctx.attr("coordinate_transformation_mode", "half_pixel")
    image = ctx.input(0, _LAYOUT).tensor
    scales = _scales(ctx, shape, target)
    if mode == "nearest":
        _nearest(ctx, image, places, scales)
        return
    if mode != "linear" or ctx.attr("antialias", 0):
        raise ctx.refuse(
            "mode", f"{mode!r}{' with antialias' if ctx.attr('antialias', 0) else ''}", "linear or nearest"
        )
    exact = all(math.isclose(s, t / n, rel_tol=1e-6) for s, t, n in zip(scales, target[2:], shape[2:], strict=True))
    flags = {"half_pixel": (False, True), "asymmetric": (False, False), "align_corners": (True, False)}
    if places == "pytorch_half_pixel" and min(target[2:]) > 1:
        places = "half_pixel"
    if places not in flags or not exact:
        raise ctx.refuse("coordinate_transformation_mode", repr(places), "half_pixel, asymmetric or align_corners")
    align, half = flags[places]
    ctx.emit("RESIZE_BILINEAR", [image, ctx.ints(target[2:])], [ctx.output(_LAYOUT)], "ResizeBilinearOptions",
             alignCorners=align, halfPixelCenters=half)  # fmt: skip


def _scales(ctx: Lowering, shape: tuple[int, ...], target: tuple[int, ...]) -> list[float]:
    given = ctx.const(2) if ctx.has(2) else None
    if given is not None and given.size:
        return [float(s) for s in given[-2:]]
    return [t / s for t, s in zip(target[2:], shape[2:], strict=True)]


def _nearest(ctx: Lowering, image: Tensor, places: str, scales: list[float]) -> None:
    rounding = ctx.attr("nearest_mode", "round_prefer_floor")
    target = ctx.out_shape()[2:]
    wanted = []
    for size, out, scale in zip(ctx.shape(0)[2:], target, scales, strict=True):
        source = _source(np.arange(out, dtype=np.float64), size, out, scale, places)
        if source is None or rounding not in _ROUNDINGS:
            raise ctx.refuse("coordinate_transformation_mode", repr(places), "half_pixel, asymmetric or align_corners")
        wanted.append(np.clip(_ROUNDINGS[rounding](source), 0, size - 1).astype(np.int32))
    for align, half in ((False, False), (False, True)):
        sizes = zip(ctx.shape(0)[2:], target, strict=True)
        if all(np.array_equal(w, _tflite(n, o, half)) for w, (n, o) in zip(wanted, sizes, strict=True)):
            ctx.emit("RESIZE_NEAREST_NEIGHBOR", [image, ctx.ints(target)], [ctx.output(_LAYOUT)],
                     "ResizeNearestNeighborOptions", alignCorners=align, halfPixelCenters=half)  # fmt: skip
            return
    rows = ctx.program.temp(
        image, (image.shape[0], target[0], *image.shape[2:]), image.dynamic, f"{ctx.result.name}/rows"
    )
    ctx.emit("GATHER", [image, ctx.ints(wanted[0])], [rows], "GatherOptions", axis=1, batchDims=0)
    ctx.emit("GATHER", [rows, ctx.ints(wanted[1])], [ctx.output(_LAYOUT)], "GatherOptions", axis=2, batchDims=0)


_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _source(out: Array, size: int, count: int, scale: float, places: str) -> Array | None:
    """Where each output place lies in the input (ONNX Resize, coordinate_transformation_mode)."""
    match places:
        case "asymmetric":
            return out / scale
        case "half_pixel":
            return (out + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (out + 0.5) / scale - 0.5 if count > 1 else out * 0
        case "align_corners":
            return out * (size - 1) / (count - 1) if count > 1 else out * 0
    return None


def _tflite(size: int, count: int, half: bool) -> Array:
    """What tflite/kernels/internal/reference/resize_nearest_neighbor.h picks."""
    scale = np.float32(size) / np.float32(count)
    place = (np.arange(count, dtype=np.float32) + np.float32(0.5 if half else 0.0)) * scale
    picked: Array = np.minimum(np.floor(place), size - 1).astype(np.int32)
    return picked


ROWS = (Op("Resize", Same(), ("activation", "static"), lower=resize),)
