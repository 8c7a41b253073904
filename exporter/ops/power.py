"""Pow: by name where there is one, by POW, and exactly for integers."""

from __future__ import annotations

import numpy as np

from exporter.ops.elementwise import broadcast
from exporter.ops.lowering import Array, Lowering
from exporter.ops.op import Float, Op
from exporter.ops.steps import Steps
from exporter.ops.widened import EXACT, Turns, widened

__all__ = ["ROWS"]

_BITS = 6  # exponents from 64 on overflow any base but -1, 0 and 1, which repeat every second


def power(ctx: Lowering) -> None:
    """The type is that of the base; the exponent has its own."""
    exponent = ctx.const(1)
    single = None
    if exponent is not None and exponent.size == 1 and exponent.ndim <= len(ctx.shape(0)):
        single = float(exponent.astype(np.float64).item())
    if ctx.input(0).tensor.dtype.kind == "f":
        _real(ctx, single)
    else:
        _integer(ctx, exponent)


def _real(ctx: Lowering, single: float | None) -> None:
    view, steps = ctx.input(0), Steps(ctx)
    x = view.tensor
    match single:
        case 1.0:
            ctx.alias(view)
        case 2.0:
            steps.mul(x, x, ctx.output(view.layout))
        case 3.0:
            steps.mul(steps.mul(x, x), x, ctx.output(view.layout))
        case 0.5:
            steps.unary("SQRT", x, ctx.output(view.layout))
        case -0.5:
            steps.div(1.0, steps.unary("SQRT", x), ctx.output(view.layout))
        case -1.0:
            steps.div(1.0, x, ctx.output(view.layout))
        case _:
            (base, exponent), layout = broadcast(ctx)
            steps.binary("POW", base, steps.cast(exponent, "float32"), ctx.output(layout))


def _integer(ctx: Lowering, exponent: Array | None) -> None:
    """Repeated squaring, one bit of the exponent after the other."""
    kind = ctx.dtype(1)
    if kind.kind not in "iu" and (exponent is None or not np.array_equal(exponent, np.rint(exponent))):
        found = f"{kind.name} computed at run time or not whole, of an integer base"
        raise ctx.refuse("exponent", found, "cast the base to float32")
    steps = Steps(ctx)
    (base, given), layout = broadcast(ctx)
    if given.dtype == np.int64:
        given = steps.minimum(steps.maximum(given, -65), 1 << 20)
    whole = steps.cast(given, "int32")
    odd = steps.binary("FLOOR_MOD", whole, 2)
    beyond = steps.binary("LOGICAL_OR", steps.binary("LESS", whole, 0), steps.binary("GREATER", whole, 63))
    left = steps.select(beyond, steps.add(odd, 62), whole)
    result, square = None, base
    for bit in range(_BITS):
        if bit:
            square = steps.mul(square, square)
            left = steps.binary("RIGHT_SHIFT", left, 1)
        set_here = steps.binary("EQUAL", steps.binary("FLOOR_MOD", left, 2), 1)
        factor = steps.select(set_here, square, 1)
        result = factor if result is None else steps.mul(result, factor)
    assert result is not None
    # 1 / base is whole only of these
    unit = steps.binary("LOGICAL_OR", steps.binary("EQUAL", base, 1), steps.binary("EQUAL", base, -1))
    whole_power = steps.binary("LOGICAL_OR", unit, steps.binary("GREATER_EQUAL", whole, 0))
    steps.select(whole_power, result, 0, ctx.output(layout))


# the product is right modulo 2^64, an exponent at its value
_TURNS: Turns = {**EXACT, "uint64": ("BITCAST", "int64")}
_NO_INT = Float("no integer kernel in ONNX Runtime")

ROWS = (Op("Pow", _NO_INT, lower=widened(power, _TURNS), types=("float32", "int32", "int64", *_TURNS)),)
