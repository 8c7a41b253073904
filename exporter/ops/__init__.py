"""The table of operators: everything that planning, emission and the documentation know of one is in its row."""

from __future__ import annotations

from exporter.ops import (
    activation,
    blocks,
    conv,
    elementwise,
    families,
    gather,
    generate,
    matmul,
    norm,
    padding,
    pool,
    reduce,
    resize,
    scatter,
    selection,
    shape,
)
from exporter.ops.op import Fixed, Float, Free, Int8Rule, Op, Same

__all__ = ["OPS", "Fixed", "Float", "Free", "Int8Rule", "Op", "Same"]

_FAMILIES = (
    activation, blocks, conv, elementwise, families, gather, generate, matmul, norm, padding, pool, reduce, resize,
    scatter, selection, shape,
)  # fmt: skip

OPS: dict[str, Op] = {row.type: row for family in _FAMILIES for row in family.ROWS}
