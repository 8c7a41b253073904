"""Tensors made of shapes and numbers, and shapes themselves."""

from __future__ import annotations

import numpy as np

from exporter.ops.integers import Integers
from exporter.ops.lowering import Lowering, View, identity
from exporter.ops.op import STORED, Float, Op

__all__ = ["ROWS"]

_RANGED = {"float32": "float32", "int32": "int32", "int64": "int64", "int16": "int32", "float16": "float32",
           "bfloat16": "float32"}  # fmt: skip


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
    """A constant; FILL to a shape that is computed."""
    value = ctx.attr("value")
    number = (np.zeros(1, np.float32) if value is None else value.numpy()).reshape(())
    shape, moves = ctx.out_shape(), ctx.values.dynamic(ctx.result)
    if not moves:
        filled = ctx.program.constant(np.broadcast_to(number, shape), stem=ctx.result.name or "filled")
        ctx.alias(View(filled, identity(len(shape))))
        return
    known = ctx.values.constant(ctx.node.inputs[0]) is not None or ctx.values.law(ctx.node.inputs[0]) is not None
    sizes = ctx.values.sizes(ctx.result) if known else ctx.plain(0)
    ctx.emit("FILL", [sizes, ctx.program.constant(number)], [ctx.output()], "FillOptions")


def range_(ctx: Lowering) -> None:
    """RANGE."""
    bounds = [ctx.plain(i) for i in range(3)]
    dtype = bounds[0].dtype
    if dtype.name not in _RANGED:
        raise ctx.refuse("start", dtype.name, f"can be {', '.join(_RANGED)}")
    steps, kind = Integers(ctx), np.dtype(_RANGED[dtype.name])
    bounds = [steps.reshape(steps.cast(b, kind), ()) for b in bounds]
    result = ctx.output()
    if kind == dtype:
        ctx.emit("RANGE", bounds, [result], "RangeOptions")
        return
    numbers = steps.new(kind, result.shape, result.dynamic)
    ctx.emit("RANGE", bounds, [numbers], "RangeOptions")
    ctx.emit("CAST", [numbers], [result], "CastOptions")


def shape(ctx: Lowering) -> None:
    """SHAPE, of what is not known before the run; put into ONNX order."""
    view, rank, steps = ctx.input(), len(ctx.shape(0)), Integers(ctx)
    wanted = range(rank)[slice(ctx.attr("start", 0), ctx.attr("end"))]
    sizes = steps.lengths(view.tensor, [view.layout.index(a) for a in wanted], np.int64)
    ctx.alias(View(sizes, (0,)))


def size(ctx: Lowering) -> None:
    """The product of SHAPE."""
    view, steps = ctx.input(), Integers(ctx)
    count = steps.cast(steps.count(view.tensor, range(len(view.layout))), np.int64)
    ctx.alias(View(count, ()))


_SHAPES = Float("computes a shape")

ROWS = (
    Op("EyeLike", _SHAPES, ("static",), lower=eye_like, ignores=("dtype",)),
    Op("ConstantOfShape", _SHAPES, ("static",), lower=constant_of_shape),
    Op("Range", _SHAPES, ("static",), lower=range_),
    Op("Shape", _SHAPES, ("static",), lower=shape),
    Op("Size", _SHAPES, ("static",), lower=size),
)
