"""Regions of interest."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.moves import Moves
from exporter.ops.op import Float, Op
from exporter.ops.sampling import clip
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, REALS, widened

__all__ = ["ROWS"]

_LAYOUT = (0, 2, 3, 1)


def roi_align(ctx: Lowering) -> None:
    """Bilinear samples on a regular grid in each bin, pooled (He et al. 2017), as in ONNX Runtime's roialign.cc."""
    ratio, mode = ctx.attr("sampling_ratio", 0), ctx.attr("mode", "avg")
    if ratio < 1:
        raise ctx.refuse("sampling_ratio", str(ratio), "as many samples as the region is large: give a number of them")
    if mode not in {"avg", "max"}:
        raise ctx.refuse("mode", repr(mode), "avg and max work")
    bins = (ctx.attr("output_height", 1), ctx.attr("output_width", 1))
    moves, steps = Moves(ctx), Steps(ctx)
    image = ctx.input(0, _LAYOUT).tensor
    batch, high, wide, channels = image.shape
    flat = moves.reshape(image, [batch * high * wide, channels], image.dynamic)
    regions = ctx.plain(1)
    count = regions.shape[0]
    ys, inside_y = _samples(ctx, regions, 1, bins[0], ratio, high)
    xs, inside_x = _samples(ctx, regions, 0, bins[1], ratio, wide)
    page = moves.reshape(steps.cast(ctx.plain(2), np.int32), [count, 1, 1])
    start = steps.mul(page, high * wide)
    rows, columns = ys[0].shape[1], xs[0].shape[1]
    inside = steps.mul(moves.reshape(inside_y, [count, rows, 1]), moves.reshape(inside_x, [count, 1, columns]))
    parts: list[Tensor] = []
    for row, by_row in ((ys[0], ys[2]), (ys[1], ys[3])):
        for column, by_column in ((xs[0], xs[2]), (xs[1], xs[3])):
            line = steps.add(start, steps.mul(moves.reshape(row, [count, rows, 1]), wide))
            index = steps.add(line, moves.reshape(column, [count, 1, columns]))
            weight = steps.mul(moves.reshape(by_row, [count, rows, 1]), moves.reshape(by_column, [count, 1, columns]))
            factor = moves.reshape(steps.mul(weight, inside), [count, rows, columns, 1])
            parts.append(steps.mul(moves.gather(flat, index, 0), factor))
    join = steps.add if mode == "avg" else steps.maximum  # of the weighed corners, as ONNX Runtime has it
    total = parts[0]
    for part in parts[1:]:
        total = join(total, part)
    fields = {"strideH": ratio, "strideW": ratio, "filterHeight": ratio, "filterWidth": ratio}
    code = "AVERAGE_POOL_2D" if mode == "avg" else "MAX_POOL_2D"
    ctx.emit(code, [total], [ctx.output(_LAYOUT)], "Pool2DOptions", padding="VALID", fusedActivationFunction="NONE",
             **fields)  # fmt: skip


def _samples(
    ctx: Lowering, regions: Tensor, column: int, bins: int, ratio: int, size: int
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Along one axis, [regions, bins x ratio]: the places before and after each sample, their weights, and 1 inside."""
    moves, steps = Moves(ctx), Steps(ctx)
    half = ctx.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    scale = float(ctx.attr("spatial_scale", 1.0))
    ends = []
    for entry in (column, column + 2):
        end = steps.mul(moves.cut(regions, [0, entry], [regions.shape[0], 1]), scale)
        ends.append(steps.sub(end, 0.5) if half else end)
    length = steps.sub(ends[1], ends[0])
    if not half:
        length = steps.maximum(length, 1.0)
    grid = (np.arange(bins * ratio) + 0.5) / (bins * ratio)
    place = steps.add(steps.mul(length, grid[None]), ends[0])
    inside = steps.mul(
        steps.cast(steps.binary("GREATER_EQUAL", place, -1.0), np.float32),
        steps.cast(steps.binary("LESS_EQUAL", place, float(size)), np.float32),
    )
    held = clip(ctx, place, 0, size - 1)
    floor = steps.unary("FLOOR", held)
    after = steps.sub(held, floor)
    first = steps.cast(floor, np.int32)
    second = steps.minimum(steps.add(first, 1), size - 1)
    return (first, second, steps.sub(ctx.number(1.0), after), after), inside


ROWS = (
    Op(
        "RoiAlign",
        Float("no integer kernel in either runtime"),
        ("activation", "activation", "static"),
        lower=widened(roi_align, REAL),
        types=REALS,
    ),
)
