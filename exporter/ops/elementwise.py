"""Arithmetic on two or more tensors, with broadcasting under any layout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from exporter.ops.lowering import NEW, Layout, Lowering, Tensor, identity
from exporter.ops.op import NO_INT16, Float, Free, Op
from exporter.ops.quotients import exact_quotient, truncated_remainder
from exporter.ops.steps import Steps
from exporter.ops.widened import BOUNDS, BOUNDS_TAKE, EXACT, REAL, RING, Lower, Turns, widened

__all__ = ["ROWS", "aligned", "broadcast", "chain"]


def broadcast(ctx: Lowering, indices: Sequence[int] | None = None) -> tuple[list[Tensor], Layout]:
    """The inputs laid out so that TFLite broadcasts them as ONNX does, and the layout of the result."""
    indices = range(len(ctx.node.inputs)) if indices is None else indices
    rank = len(ctx.out_shape())
    layout = identity(rank)
    views = {i: ctx.input(i) for i in indices}
    full = [i for i in indices if len(ctx.shape(i)) == rank and views[i].tensor.data is None]
    if full:  # the largest computed operand stays as it lies
        layout = views[max(full, key=lambda i: int(np.prod(ctx.shape(i))))].layout
    return [aligned(ctx, i, layout, rank) for i in indices], layout


def aligned(ctx: Lowering, index: int, layout: Layout, rank: int) -> Tensor:
    """Input ``index`` with its trailing axes under those of ``layout``; leading ones of a constant are dropped."""
    lead = rank - len(ctx.shape(index))
    wanted = tuple(a - lead if a >= lead else NEW for a in layout)
    tensor = ctx.program.convert(ctx.input(index), wanted).tensor
    if tensor.data is None:
        return tensor
    shape = tensor.shape
    while shape and shape[0] == 1:
        shape = shape[1:]
    quant = tensor.quant if tensor.quant is None or tensor.quant.axis is None else None
    return tensor if quant is not tensor.quant else ctx.program.constant(tensor.data.reshape(shape), quant, tensor.name)


def chain(code: str) -> Lower:
    """A builtin of two operands, over all inputs from left to right."""

    def lower(ctx: Lowering) -> None:
        tensors, layout = broadcast(ctx)
        if len(tensors) == 1:
            ctx.alias(ctx.input(0))
            return
        steps, left = Steps(ctx), tensors[0]
        for right in tensors[1:-1]:
            left = steps.binary(code, left, right)
        fields = {"fusedActivationFunction": ctx.fused} if code in _FUSING else {}
        steps.binary(code, left, tensors[-1], ctx.output(layout), **fields)

    return lower


def mean(ctx: Lowering) -> None:
    """ADD, then MUL by one over their number."""
    tensors, layout = broadcast(ctx)
    if len(tensors) == 1:
        ctx.alias(ctx.input(0))
        return
    steps, total = Steps(ctx), tensors[0]
    for right in tensors[1:]:
        total = steps.add(total, right)
    steps.mul(total, 1 / len(tensors), ctx.output(layout))


def divide(ctx: Lowering) -> None:
    """DIV; int64, for which it has no kernel, by an exact quotient. Integers round towards zero, as in ONNX Runtime."""
    (a, b), layout = broadcast(ctx)
    if a.dtype == np.int64:
        exact_quotient(Steps(ctx), a, b, ctx.output(layout))
        return
    Steps(ctx).binary("DIV", a, b, ctx.output(layout), fusedActivationFunction=ctx.fused)


def modulo(ctx: Lowering) -> None:
    """FLOOR_MOD has the sign of the divisor; fmod=1 asks for that of the dividend."""
    (a, b), layout = broadcast(ctx)
    steps = Steps(ctx)
    if not ctx.attr("fmod", 0):
        steps.binary("FLOOR_MOD", a, b, ctx.output(layout))
    elif a.dtype.kind == "f":  # of two positive numbers the kernel returns std::fmod, which is exact
        size = steps.binary("FLOOR_MOD", steps.unary("ABS", a), steps.unary("ABS", b))
        steps.select(steps.binary("LESS", a, 0.0), steps.unary("NEG", size), size, ctx.output(layout))
    else:
        truncated_remainder(steps, a, b, ctx.output(layout))


_NO_INT = Float("no integer kernel in ONNX Runtime")
_FUSING = {"ADD", "SUB", "MUL", "DIV"}
_WHOLE = ("float32", "int32", "int64")


def _row(op: str, lower: Lower, rule: Free | Float, turns: Turns, *, fuses: bool = False) -> Op:
    int16 = rule if isinstance(rule, Free) else NO_INT16
    return Op(op, rule, lower=widened(lower, turns), fuses=fuses, types=(*_WHOLE, *turns), int16=int16)


ROWS = (
    _row("Add", chain("ADD"), Free(), RING, fuses=True),
    _row("Sub", chain("SUB"), Free(), RING, fuses=True),
    _row("Mul", chain("MUL"), Free(), RING, fuses=True),
    _row("Div", divide, _NO_INT, EXACT, fuses=True),
    _row("Mod", modulo, _NO_INT, EXACT),
    Op("Min", _NO_INT, lower=widened(chain("MINIMUM"), BOUNDS), types=BOUNDS_TAKE),
    Op("Max", _NO_INT, lower=widened(chain("MAXIMUM"), BOUNDS), types=BOUNDS_TAKE),
    Op("Sum", _NO_INT, lower=widened(chain("ADD"), REAL), types=("float32", *REAL)),
    Op("Mean", _NO_INT, lower=widened(mean, REAL), types=("float32", *REAL)),
)
