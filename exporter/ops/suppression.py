"""NonMaxSuppression: one NON_MAX_SUPPRESSION_V4 for each sample and class, and the rows of all of them."""

from __future__ import annotations

import numpy as np

from exporter.ops.integers import Integers
from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.op import Float, Op
from exporter.ops.steps import Steps

__all__ = ["ROWS"]

_LIMIT = 256  # samples x classes
_NEVER = -1.0  # score of a box that is out, below the threshold of 0


def non_max_suppression(ctx: Lowering) -> None:
    """Rows [sample, class, box], in the order of the scores.

    The kernel takes boxes of equal score in any order, ONNX Runtime by their number: boxes go in sorted by score
    (TOPK_V2 keeps the order of equals), with their rank for a score.
    """
    boxes, scores = ctx.plain(0), ctx.plain(1)
    if boxes.dynamic or scores.dynamic:
        raise ctx.refuse("boxes", "their number follows the batch", "export with a fixed batch")
    samples, classes, count = scores.shape
    most = min(int(_number(ctx, 2, "max_output_boxes_per_class", 0)), count)
    above = np.float32(_number(ctx, 3, "iou_threshold", 0.0))
    overlap = float(np.nextafter(above, np.float32(np.inf)))  # TFLite drops at it, ONNX above
    if samples * classes > _LIMIT:
        found = f"{samples} samples x {classes} classes"
        raise ctx.refuse("scores", found, f"at most {_LIMIT}: suppress outside of the graph")
    result = ctx.output()
    if most == 0:
        ctx.emit("FILL", [ctx.ints([0, 3]), ctx.number(0, np.int64)], [result], "FillOptions")
        return
    if ctx.attr("center_point_box", 0):
        boxes = _corners(ctx, boxes)
    parts = [
        _one(ctx, _at(ctx, boxes, [n]), _at(ctx, scores, [n, c]), (n, c), most, overlap)
        for n in range(samples)
        for c in range(classes)
    ]
    rows, kept = (_joined(ctx, [p[i] for p in parts]) for i in range(2))
    places = Integers(ctx).new(np.int64, (1, 1), frozenset({0}), "places")
    ctx.emit("WHERE", [kept], [places])
    ctx.emit("GATHER_ND", [rows, places], [result], "GatherNdOptions")


def _number(ctx: Lowering, index: int, name: str, default: float) -> float:
    return float(np.asarray(ctx.static(index, name, default)).item())


def _at(ctx: Lowering, tensor: Tensor, places: list[int]) -> Tensor:
    """The part of a tensor at the first axes' ``places``."""
    lead = len(places)
    part = ctx.program.temp(tensor, (*[1] * lead, *tensor.shape[lead:]), frozenset(), f"{ctx.result.name}/part")
    begin, size = [*places, *[0] * (len(tensor.shape) - lead)], list(part.shape)
    ctx.emit("SLICE", [tensor, ctx.ints(begin), ctx.ints(size)], [part], "SliceOptions")
    return ctx.program.reshape(part, part.shape[lead:], frozenset())


def _corners(ctx: Lowering, boxes: Tensor) -> Tensor:
    """[y1, x1, y2, x2] of [x, y, width, height], the middle first."""
    steps = Steps(ctx)
    columns = []
    for axis in (1, 0):
        middle, side = (_column(ctx, boxes, i) for i in (axis, axis + 2))
        half = steps.mul(side, 0.5)
        columns.append((steps.sub(middle, half), steps.add(middle, half)))
    (top, bottom), (left, right) = columns
    joined = ctx.program.temp(boxes, boxes.shape, frozenset(), f"{ctx.result.name}/corners")
    ctx.emit("CONCATENATION", [top, left, bottom, right], [joined], "ConcatenationOptions", axis=2,
             fusedActivationFunction="NONE")  # fmt: skip
    return joined


def _column(ctx: Lowering, boxes: Tensor, index: int) -> Tensor:
    column = ctx.program.temp(boxes, (*boxes.shape[:2], 1), frozenset(), f"{ctx.result.name}/column")
    begin, size = ctx.ints([0, 0, index]), ctx.ints(list(column.shape))
    ctx.emit("SLICE", [boxes, begin, size], [column], "SliceOptions")
    return column


def _one(
    ctx: Lowering, boxes: Tensor, scores: Tensor, number: tuple[int, int], most: int, overlap: float
) -> tuple[Tensor, Tensor]:
    """Rows int64 [most, 3] of one sample and class, and which of them count."""
    steps, ints = Steps(ctx), Integers(ctx)
    count = boxes.shape[0]
    best, order = ints.new(np.float32, (count,), tag="scores"), ints.new(np.int32, (count,), tag="order")
    ctx.emit("TOPK_V2", [scores, ctx.number(count, np.int32)], [best, order], "TopKV2Options")
    ranked = ctx.number(np.arange(count, 0, -1, dtype=np.float32))
    if ctx.has(4):
        good = steps.binary("GREATER", best, ctx.plain(4) if ctx.const(4) is None else float(_number(ctx, 4, "", 0.0)))
        ranked = steps.select(good, ranked, np.full(count, _NEVER, np.float32))
    sorted_boxes = ints.new(np.float32, boxes.shape, tag="boxes")
    ctx.emit("GATHER", [boxes, order], [sorted_boxes], "GatherOptions", axis=0, batchDims=0)
    chosen, valid = ints.new(np.int32, (most,), tag="chosen"), ints.new(np.int32, (), tag="valid")
    operands = [sorted_boxes, ranked, ctx.number(most, np.int32), ctx.number(overlap), ctx.number(0.0)]
    ctx.emit("NON_MAX_SUPPRESSION_V4", operands, [chosen, valid], "NonMaxSuppressionV4Options")
    found = ints.new(np.int32, (most,), tag="found")
    ctx.emit("GATHER", [order, chosen], [found], "GatherOptions", axis=0, batchDims=0)
    column = ctx.program.reshape(ints.cast(found, np.int64), (most, 1), frozenset())
    lead = ctx.number(np.broadcast_to(np.asarray(number), (most, 2)), np.int64)
    rows = ints.new(np.int64, (most, 3), tag="rows")
    ctx.emit("CONCATENATION", [lead, column], [rows], "ConcatenationOptions", axis=1, fusedActivationFunction="NONE")
    return rows, steps.binary("LESS", ctx.ints(np.arange(most)), valid)


def _joined(ctx: Lowering, parts: list[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    shape = (sum(p.shape[0] for p in parts), *parts[0].shape[1:])
    whole = Integers(ctx).new(parts[0].dtype, shape, tag="all")
    ctx.emit("CONCATENATION", parts, [whole], "ConcatenationOptions", axis=0, fusedActivationFunction="NONE")
    return whole


ROWS = (
    Op(
        "NonMaxSuppression",
        Float("its shape is computed at run time"),
        ("activation", "activation", "static"),
        lower=non_max_suppression,
    ),
)
