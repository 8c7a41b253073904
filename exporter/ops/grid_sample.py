"""GridSample and the grids for it."""

from __future__ import annotations

import math

import numpy as np

from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.moves import Moves
from exporter.ops.op import Float, Op
from exporter.ops.sampling import bordered, clip, sample
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, REALS, widened
from exporter.ops.windows import image_layout

__all__ = ["ROWS"]

_MODES = {
    "linear": "linear", "bilinear": "linear", "nearest": "nearest", "cubic": "cubic", "bicubic": "cubic",
}  # fmt: skip
# How far beyond the coordinate's floor each mode reads, in front and behind
_REACH = {"nearest": (0, 0), "linear": (0, 1), "cubic": (1, 2)}


def grid_sample(ctx: Lowering) -> None:
    """Coordinates from the grid as onnxruntime/core/providers/cpu/tensor/grid_sample.cc has them, then gathers."""
    mode, padding = ctx.attr("mode", "linear"), ctx.attr("padding_mode", "zeros")
    aligned = bool(ctx.attr("align_corners", 0))
    shape = ctx.shape(0)
    rank = len(shape)
    layout = image_layout(rank, ctx)
    if rank == 3 or mode not in _MODES or padding not in {"zeros", "border", "reflection"}:
        raise ctx.refuse("mode", f"{mode!r} with {padding!r} for rank {rank}", "images and volumes work")
    mode = _MODES[mode]
    if mode == "cubic" and rank == 5:
        raise ctx.refuse("mode", "cubic over volumes", "linear and nearest work")
    image = ctx.input(0, layout).tensor
    sizes = image.shape[1:-1]
    moves = Moves(ctx)
    batch, *out, axes = ctx.shape(1)
    count = math.prod(out)
    grid = moves.reshape(ctx.plain(1), [batch, count, axes])
    places, pads = [], []
    for axis, size in enumerate(sizes):
        raw = moves.cut(grid, [0, 0, axes - 1 - axis], [batch, count, 1])
        place, pad = _place(ctx, moves.reshape(raw, [batch, count]), size, mode, padding, aligned)
        places.append(place)
        pads.append(pad)
    numpy_mode = {"zeros": "zeros", "border": "edge"}.get(padding, "reflect" if aligned else "symmetric")
    taken = sample(ctx, bordered(ctx, image, pads, numpy_mode), places, [b for b, _ in pads], mode)
    moves.reshape(taken, (), into=ctx.output(layout))


def _place(
    ctx: Lowering, grid: Tensor, size: int, mode: str, padding: str, aligned: bool
) -> tuple[Tensor, tuple[int, int]]:
    """The coordinate on an axis that a grid entry of -1 to 1 means, and the border that it needs."""
    steps = Steps(ctx)
    half = (size - 1) / 2
    place = steps.add(steps.mul(grid, half if aligned else size / 2), half)
    if mode == "nearest":
        place = steps.unary("ROUND", place)
    front, behind = _REACH[mode]
    if padding == "zeros":  # from one step outside on, nothing of the image is read
        return clip(ctx, place, -1 - front, size + front), (1 + 2 * front, 1 + front + behind)
    if padding == "border" and mode == "cubic":  # PyTorch and ONNX Runtime clamp what is read, not the coordinate
        return clip(ctx, place, -2, size), (3, 3)
    if padding == "border":
        return clip(ctx, place, 0, size - 1), (front, behind)
    low, high = (0.0, size - 1.0) if aligned else (-0.5, size - 0.5)
    place = _reflected(ctx, place, low, high)
    if mode == "nearest":
        return clip(ctx, place, 0, size - 1), (0, 0)
    return clip(ctx, place, low, high), (front + (not aligned), behind)


def _reflected(ctx: Lowering, x: Tensor, low: float, high: float) -> Tensor:
    """Folded back at both ends as often as needed."""
    steps = Steps(ctx)
    span = high - low
    if span <= 0:
        return steps.mul(x, 0.0)
    away = steps.unary("ABS", steps.sub(x, low))
    turn = steps.mul(steps.unary("FLOOR", steps.mul(away, 1 / (2 * span))), 2 * span)
    once = steps.sub(away, turn)  # 0 to 2 spans
    return steps.add(steps.minimum(once, steps.sub(ctx.number(2 * span), once)), low)


def affine_grid(ctx: Lowering) -> None:
    """The places of a regular grid, moved by each matrix: FULLY_CONNECTED with the grid as constant weights."""
    wanted = ctx.for_one(1)
    if wanted is None or not ctx.keeps_batch():
        found = "computed at run time" if wanted is None else "not that of theta's batch"
        raise ctx.refuse("size", found, "make it a constant, with the batch from Shape where it is dynamic")
    sizes = [int(n) for n in wanted[2:]]
    axes = len(sizes)
    if axes not in {2, 3} or ctx.shape(0)[1:] != (axes, axes + 1):
        raise ctx.refuse("theta", f"shape {ctx.shape(0)} for {axes} axes", "2x3 or 3x4 matrices work")
    lines = []
    for size in sizes:
        steps = np.arange(size)
        aligned = ctx.attr("align_corners", 0)
        lines.append(2 * steps / max(size - 1, 1) - 1 if aligned else (2 * steps + 1) / size - 1)
    mesh = np.meshgrid(*lines, indexing="ij")[::-1]  # x first
    places = ctx.number(np.stack([*mesh, np.ones(sizes)], -1).reshape(-1, axes + 1))
    theta = ctx.plain(0)
    moves = Moves(ctx)
    flat = moves.temp(theta, [theta.shape[0], axes, math.prod(sizes)], theta.dynamic, "places")
    ctx.emit("FULLY_CONNECTED", [theta, places, None], [flat], "FullyConnectedOptions",
             fusedActivationFunction="NONE", keepNumDims=True)  # fmt: skip
    layout = (0, axes + 1, *range(1, axes + 1))
    moves.reshape(flat, (), into=ctx.output(layout))


_NO_INTEGER = Float("no integer kernel in either runtime")

ROWS = (
    Op(
        "GridSample",
        _NO_INTEGER,
        ("activation", "activation"),
        lower=widened(grid_sample, REAL),
        types=REALS,
    ),
    Op("AffineGrid", _NO_INTEGER, ("activation", "static"), lower=widened(affine_grid, REAL), types=REALS),
)
