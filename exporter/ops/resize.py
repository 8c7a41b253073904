"""Resampling of tensors along any axes: a builtin where it does the same, else gathers or constant matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.infer import sizes_of
from exporter.ops.lowering import Array, Lowering, Tensor, View
from exporter.ops.moves import Moves
from exporter.ops.op import Op, Same
from exporter.ops.resample import Axis, Filter, nearest, outside, source, weights
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, widened
from exporter.ops.windows import image_layout

__all__ = ["ROWS"]

_BUILTIN = {"half_pixel": (False, True), "asymmetric": (False, False), "align_corners": (True, False)}
_DENSE = 64  # places for each tap up to which a matrix product is faster than gathering the taps


@dataclass(frozen=True, slots=True)
class _Resize:
    """What a node asks for.

    axes    those that change, by ONNX axis
    unsure  ONNX Runtime departs from ONNX here
    """

    mode: str
    places: str
    axes: dict[int, Axis]
    kernel: Filter
    rounding: str
    beyond: float
    unsure: bool


def resize(ctx: Lowering) -> None:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR, GATHER of places, or a product with a constant matrix by axis."""
    for index, name in ((2, "scales"), (3, "sizes"), (1, "roi")):
        if ctx.has(index) and ctx.for_one(index) is None and (name != "roi" or _crops(ctx.attr)):
            raise ctx.refuse(name, "computed at run time", "TFLite needs it as a constant")
    shape = ctx.shape(0)
    if not ctx.keeps_batch():
        raise ctx.refuse("sizes", "not those of the input's batch", "take the batch from Shape, or give scales")
    asked = _asked(ctx.attr, ctx.for_one, shape, ctx.out_shape())
    view = ctx.input()
    if not asked.axes:
        ctx.alias(view)
        return
    _check(ctx, asked, view)
    if len(shape) in {3, 4} and min(asked.axes) >= 2:
        view = ctx.program.convert(view, image_layout(len(shape), ctx))
    if _builtin(ctx, asked, view):
        return
    tensor = view.tensor
    lost = _lost(asked)
    result = ctx.output(view.layout)
    places = [(view.layout.index(a), axis) for a, axis in asked.axes.items()]
    for place, axis in places:
        into = result if not lost and (place, axis) == places[-1] else None
        tensor = _resampled(ctx, asked, tensor, place, axis, into)
    if lost:
        inside = np.ones([1] * len(view.layout), bool)
        for a, gone in lost.items():
            inside = inside & ~gone.reshape([-1 if i == view.layout.index(a) else 1 for i in range(len(view.layout))])
        Steps(ctx).select(ctx.program.constant(inside), tensor, asked.beyond, result)


def _asked(
    attr: Callable[..., Any], const: Callable[[int], Array | None], shape: Sequence[int], out: Sequence[int]
) -> _Resize:
    rank = len(shape)
    axes = [int(a) % rank for a in attr("axes", range(rank))]
    places, policy = attr("coordinate_transformation_mode", "half_pixel"), attr("keep_aspect_ratio_policy", "stretch")
    scales, sizes, roi = const(2), const(3), const(1)
    if scales is None or not scales.size:
        assert sizes is not None
        found = [float(s) / shape[a] for s, a in zip(sizes, axes, strict=True)]
        pick = {"not_larger": min, "not_smaller": max}.get(policy)
        scale = dict(zip(axes, found if pick is None else [pick(found)] * len(found), strict=True))
    else:
        scale = {a: float(s) for a, s in zip(axes, scales, strict=True)}
    parts = dict.fromkeys(range(rank), (0.0, 1.0))
    if places == "tf_crop_and_resize" and roi is not None and roi.size:
        starts, ends = roi[: len(axes)], roi[len(axes) :]
        parts.update({a: (float(s), float(e)) for a, s, e in zip(axes, starts, ends, strict=True)})
    every = {a: Axis(shape[a], out[a], scale.get(a, 1.0), parts[a]) for a in range(rank)}
    moved = {a: x for a, x in every.items() if x.size != x.out or x.scale != 1 or x.roi != (0.0, 1.0)}
    mode = attr("mode", "nearest")
    kernel = Filter(
        mode, float(attr("cubic_coeff_a", -0.75)), bool(attr("antialias", 0)), bool(attr("exclude_outside", 0))
    )
    whole = all(math.isclose(x.scale * x.size, x.out, rel_tol=1e-6) for x in moved.values())
    still = [x for x in moved.values() if x.size == x.out]  # it ignores their roi, and copies where there are no others
    return _Resize(
        mode,
        places,
        moved,
        kernel,
        attr("nearest_mode", "round_prefer_floor"),
        float(attr("extrapolation_value", 0.0)),
        (not whole and places in {"align_corners", "tf_crop_and_resize"})
        or any(x.roi != (0.0, 1.0) for x in still)
        or (bool(still) and len(still) == len(moved)),
    )


def _crops(attr: Callable[..., Any]) -> bool:
    return bool(attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize")


def _check(ctx: Lowering, asked: _Resize, view: View) -> None:
    known = asked.mode == "nearest" or asked.mode in {"linear", "cubic"}
    if not known:
        raise ctx.refuse("mode", repr(asked.mode), "nearest, linear and cubic work")
    if source(Axis(1, 1, 1), asked.places) is None:
        raise ctx.refuse("coordinate_transformation_mode", repr(asked.places), "half_pixel is the usual one")
    if nearest(Axis(1, 2, 2), np.zeros(1, np.float32), asked.rounding) is None:
        raise ctx.refuse("nearest_mode", repr(asked.rounding), "round_prefer_floor is the usual one")
    if asked.unsure:
        found = f"{asked.places!r} with these scales, where ONNX Runtime departs from ONNX"
        raise ctx.refuse("coordinate_transformation_mode", found, "use scales whose product with the size is whole")
    if asked.mode != "nearest" and view.tensor.dtype.kind != "f" and view.tensor.quant is None:
        raise ctx.refuse(
            "type", f"{view.tensor.dtype} in mode {asked.mode!r}", "float32 works, others in mode 'nearest'"
        )
    if any(view.layout.index(a) in view.tensor.dynamic for a in asked.axes):
        raise ctx.refuse("scales", "resamples the batch", "export with a fixed batch")


def _lost(asked: _Resize) -> dict[int, Array]:
    """By ONNX axis, the output places that lie outside of the input and show ``extrapolation_value``."""
    if asked.places != "tf_crop_and_resize":
        return {}
    found = {a: outside(x, _source(x, asked)) for a, x in asked.axes.items()}
    return {a: gone for a, gone in found.items() if gone.any()}


def _source(axis: Axis, asked: _Resize) -> Array:
    found = source(axis, asked.places)
    assert found is not None
    return found


def _nearest(axis: Axis, asked: _Resize) -> Array:
    found = nearest(axis, _source(axis, asked), asked.rounding)
    assert found is not None
    return found


def _builtin(ctx: Lowering, asked: _Resize, view: View) -> bool:
    """Does a builtin over rows and columns do the same? Then it is written."""
    if len(view.tensor.shape) != 4 or not set(asked.axes) <= {2, 3} or view.layout[0] != 0 or view.layout[3] != 1:
        return False
    target = ctx.out_shape()[2:]
    sizes = ctx.ints([1, *target] if len(target) == 1 else target)
    if asked.mode == "nearest":
        half = next((h for h in (False, True) if _picks_alike(asked, h)), None)
        if half is None or (view.tensor.dtype != np.float32 and view.tensor.quant is None) or _lost(asked):
            return False
        ctx.emit("RESIZE_NEAREST_NEIGHBOR", [view.tensor, sizes], [ctx.output(view.layout)],
                 "ResizeNearestNeighborOptions", alignCorners=False, halfPixelCenters=half)  # fmt: skip
        return True
    flags = _bilinear(asked)
    if flags is not None:
        ctx.emit("RESIZE_BILINEAR", [view.tensor, sizes], [ctx.output(view.layout)],
                 "ResizeBilinearOptions", alignCorners=flags[0], halfPixelCenters=flags[1])  # fmt: skip
    return flags is not None


def _bilinear(asked: _Resize) -> tuple[bool, bool] | None:
    """alignCorners and halfPixelCenters of RESIZE_BILINEAR; None where it does something else."""
    axes = asked.axes.values()
    places = asked.places
    if places == "half_pixel_symmetric" or (places == "pytorch_half_pixel" and min(x.out for x in axes) > 1):
        places = "half_pixel"
    exact = all(math.isclose(x.scale, x.out / x.size, rel_tol=1e-6) for x in axes)
    shrinks = any(x.scale < 1 for x in axes)
    plain = asked.mode == "linear" and not asked.kernel.exclude_outside and not (asked.kernel.antialias and shrinks)
    return _BUILTIN.get(places) if plain and exact else None


def _picks_alike(asked: _Resize, half: bool) -> bool:
    """Does RESIZE_NEAREST_NEIGHBOR (kernels/internal/reference/resize_nearest_neighbor.h) copy the same places?"""
    for axis in asked.axes.values():
        scale = np.float32(axis.size) / np.float32(axis.out)
        place = (np.arange(axis.out, dtype=np.float32) + np.float32(0.5 if half else 0.0)) * scale
        if not np.array_equal(np.minimum(np.floor(place), axis.size - 1), _nearest(axis, asked)):
            return False
    return True


def _resampled(ctx: Lowering, asked: _Resize, tensor: Tensor, place: int, axis: Axis, into: Tensor | None) -> Tensor:
    """One axis of the tensor, at ``place``."""
    moves = Moves(ctx)
    if asked.mode == "nearest":
        return moves.gather(tensor, _nearest(axis, asked), place, into=into)
    matrix = weights(axis, _source(axis, asked), asked.kernel)
    taps = int((matrix != 0).sum(1).max())
    if axis.size > _DENSE * taps:
        return _by_tap(ctx, tensor, matrix, taps, place, into)
    shape = [*tensor.shape[:place], axis.out, *tensor.shape[place + 1 :]]
    if place == len(shape) - 1:
        into = into or moves.temp(tensor, shape, tensor.dynamic, "resampled")
        ctx.emit("FULLY_CONNECTED", [tensor, ctx.number(matrix), None], [into], "FullyConnectedOptions",
                 fusedActivationFunction="NONE", keepNumDims=True)  # fmt: skip
        return into
    before, after = math.prod(shape[:place]), math.prod(shape[place + 1 :])
    dynamic = frozenset(0 if i < place else 2 for i in tensor.dynamic)
    flat = moves.reshape(tensor, [before, axis.size, after], dynamic)
    made = moves.temp(tensor, [before, axis.out, after], dynamic, "resampled")
    ctx.emit("BATCH_MATMUL", [ctx.number(matrix[None]), flat], [made], "BatchMatMulOptions", adjX=False, adjY=False)
    return moves.reshape(made, shape, tensor.dynamic, into)


def _by_tap(ctx: Lowering, tensor: Tensor, matrix: Array, taps: int, place: int, into: Tensor | None) -> Tensor:
    """The sum of a gather for each weight of a row: long axes have few."""
    moves, steps = Moves(ctx), Steps(ctx)
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps]
    total: Tensor | None = None
    for tap in range(taps):
        factor = np.take_along_axis(matrix, order[:, tap : tap + 1], 1).reshape(
            [-1] + [1] * (len(tensor.shape) - place - 1)
        )
        part = steps.mul(moves.gather(tensor, order[:, tap], place), factor)
        total = part if total is None else steps.add(total, part, into if tap == taps - 1 else None)
    assert total is not None
    return total


def _resize_int8(node: ir.Node) -> bool:
    """Where integers are copied, or the builtin for integers does the same."""
    asked = _asked_of(node)
    if asked is None or asked.mode == "nearest":
        return asked is not None and not _lost(asked)
    spatial = len(sizes_of(node, 0)) in {3, 4} and bool(asked.axes) and set(asked.axes) <= {2, 3}
    return spatial and _bilinear(asked) is not None


def _resize_int16(node: ir.Node) -> bool:
    """Nor is a place rounded: the builtin counts in 1024ths of an element (ResizeBilinearInteger)."""
    asked = _asked_of(node)
    if asked is None or asked.mode == "nearest":
        return True
    flags = _bilinear(asked) or (False, False)
    spans = [(axis.size - flags[0], axis.out - flags[0]) for axis in asked.axes.values()]
    return all(out > 0 and (1024 * size) % (2 * out if flags[1] else out) == 0 for size, out in spans)


def _asked_of(node: ir.Node) -> _Resize | None:
    """None where sizes are open."""

    def const(index: int) -> Array | None:
        return graph.constant(node.inputs[index]) if index < len(node.inputs) else None

    out = graph.shape_of(node.outputs[0])
    if out is None or None in out or (const(2) is None and const(3) is None):
        return None
    return _asked(partial(graph.attribute, node), const, sizes_of(node, 0), [n or 1 for n in out])


ROWS = (
    Op(
        "Resize",
        Same(),
        ("activation", "static"),
        lower=widened(resize, REAL),
        types=("float32", "int8", "uint8", "int32", "int64", "bool", *REAL),
        int8_when=_resize_int8,
        int16=Same(),
        int16_when=_resize_int16,
    ),
)
