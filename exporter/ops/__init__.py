"""The table of operators: everything that planning, emission and the documentation know of one is in its row."""

from __future__ import annotations

from exporter.ops import (
    activation,
    attention,
    blocks,
    columns,
    control,
    conv,
    conv_causal,
    conv_transpose,
    deform,
    elementwise,
    gather,
    generate,
    grid_sample,
    linear_attention,
    matmul,
    movement,
    norm,
    norm_image,
    padding,
    pool,
    pool_global,
    recurrent,
    reduce,
    resize,
    roi,
    rotary,
    scatter,
    selection,
    shape,
    slicing,
)
from exporter.ops.op import Fixed, Float, Free, Int8Rule, Op, Same

__all__ = ["OPS", "Fixed", "Float", "Free", "Int8Rule", "Op", "Same"]

_FAMILIES = (
    activation,
    attention,
    blocks,
    columns,
    control,
    conv,
    conv_causal,
    conv_transpose,
    deform,
    elementwise,
    gather,
    generate,
    grid_sample,
    linear_attention,
    matmul,
    movement,
    norm,
    norm_image,
    padding,
    pool,
    pool_global,
    recurrent,
    reduce,
    resize,
    roi,
    rotary,
    scatter,
    selection,
    shape,
    slicing,
)

OPS: dict[str, Op] = {row.type: row for family in _FAMILIES for row in family.ROWS}
