"""The table of operators: everything that planning, emission and the documentation know of one is in its row."""

from __future__ import annotations

from exporter.ops import (
    activation,
    blocks,
    conv,
    elementwise,
    gather,
    generate,
    matmul,
    movement,
    norm,
    padding,
    pool,
    reduce,
    resize,
    scatter,
    selection,
    shape,
    slicing,
)
from exporter.ops.op import Fixed, Float, Free, Int8Rule, Op, Same

__all__ = ["OPS", "Fixed", "Float", "Free", "Int8Rule", "Op", "Same"]

_FAMILIES = (
    activation, blocks, conv, elementwise, gather, generate, matmul, movement, norm, padding, pool, reduce, resize,
    scatter, selection, shape, slicing,
)  # fmt: skip

OPS: dict[str, Op] = {row.type: row for family in _FAMILIES for row in family.ROWS}
