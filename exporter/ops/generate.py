"""Constants that an operator makes of shapes."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import Lowering, View, identity
from exporter.ops.op import STORED, Float, Op

__all__ = ["ROWS"]


def eye_like(ctx: Lowering) -> None:
    """A constant: the diagonal of a matrix of the input's shape."""
    if ctx.values.dynamic(ctx.result):
        raise ctx.refuse("input", "its shape follows the batch", "export with a fixed batch")
    dtype = ctx.result.dtype
    if dtype is None or dtype.numpy().name not in STORED:
        raise ctx.refuse("dtype", str(dtype), f"can be {', '.join(STORED)}")
    rows, columns = ctx.out_shape()
    diagonal = np.eye(rows, columns, ctx.attr("k", 0)).astype(dtype.numpy())
    ctx.alias(View(ctx.program.constant(diagonal, stem=ctx.result.name or "eye"), identity(2)))


def constant_of_shape(ctx: Lowering) -> None:
    """A constant; for one sample where the shape follows the batch."""
    value = ctx.attr("value")
    number = np.zeros(1, np.float32) if value is None else value.numpy()
    shape = ctx.out_shape()
    filled = np.broadcast_to(number.reshape(()), shape)
    ctx.alias(View(ctx.program.constant(filled, stem=ctx.result.name or "filled"), identity(len(shape))))


def unknown(ctx: Lowering) -> None:
    """What remains after folding has a shape that only the run tells."""
    raise ctx.refuse("", "made from numbers computed at run time: so is its shape", "make its inputs constants")


_SHAPES = Float("computes a shape")

ROWS = (
    Op("EyeLike", _SHAPES, ("static",), lower=eye_like, ignores=("dtype",)),
    Op("ConstantOfShape", _SHAPES, ("static",), lower=constant_of_shape),
    Op("Range", _SHAPES, ("static",), lower=unknown),
    Op("Shape", _SHAPES, ("static",)),
    Op("Size", _SHAPES, ("static",)),
)
