"""Operations on the bits of integers. TFLite has BITWISE_XOR and RIGHT_SHIFT, of at most 32 bits; the rest follows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from exporter.ops.elementwise import broadcast
from exporter.ops.lowering import Array, Lowering, Tensor
from exporter.ops.op import Float, Op
from exporter.ops.quotients import multiple_over
from exporter.ops.steps import Steps
from exporter.ops.widened import RING, Turns, widened

__all__ = ["ROWS"]

Bits = Callable[[Steps, Tensor, Tensor, Tensor | None], Tensor]


def _xor(steps: Steps, a: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
    return steps.binary("BITWISE_XOR", a, b, into)


def _and(steps: Steps, a: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
    """a + b = (a ^ b) + 2 (a & b); the highest bit, which doubling loses, is set where both are negative."""
    doubled = steps.sub(steps.add(a, b), _xor(steps, a, b))
    halved = steps.bitcast(steps.binary("RIGHT_SHIFT", steps.bitcast(doubled, "uint32"), 1), "int32")
    signs = steps.mul(steps.binary("RIGHT_SHIFT", a, 31), steps.binary("RIGHT_SHIFT", b, 31))
    return steps.add(halved, steps.mul(signs, -(1 << 31)), into)


def _or(steps: Steps, a: Tensor, b: Tensor, into: Tensor | None = None) -> Tensor:
    return steps.add(_and(steps, a, b), _xor(steps, a, b), into)


def bitwise(operation: Bits) -> Callable[[Lowering], None]:
    """An operation on int32; int64 is two of them side by side."""

    def lower(ctx: Lowering) -> None:
        (a, b), layout = broadcast(ctx)
        steps, result = Steps(ctx), ctx.output(layout)
        if a.dtype.itemsize < 8:
            operation(steps, a, b, result)
        else:
            halves = operation(steps, _halves(ctx, a), _halves(ctx, b), None)
            ctx.emit("BITCAST", [halves], [result], "BitcastOptions")

    return lower


def _halves(ctx: Lowering, tensor: Tensor) -> Tensor:
    """int64 [...] as int32 [..., 2]."""
    if tensor.data is not None:
        return ctx.program.constant(np.ascontiguousarray(tensor.data)[..., None].view(np.int32))
    name = ctx.program.name(f"{tensor.name}/halves")
    halves = Tensor(name, (*tensor.shape, 2), np.dtype(np.int32), tensor.dynamic)
    ctx.emit("BITCAST", [tensor], [halves], "BitcastOptions")
    return halves


def not_(ctx: Lowering) -> None:
    """-1 - x."""
    view = ctx.input()
    Steps(ctx).sub(-1, view.tensor, ctx.output(view.layout))


def shift(ctx: Lowering) -> None:
    """BitShift; a shift that is negative or too wide leaves nothing but copies of the sign."""
    (x, y), layout = broadcast(ctx)
    kind = ctx.dtype(0)
    steps, result, width = Steps(ctx), ctx.output(layout), kind.itemsize * 8
    amount = _amount(steps, y, width, kind)
    match ctx.attr("direction"):
        case "LEFT":
            powers = np.array([1 << i for i in range(width)] + [0], np.uint64).astype(x.dtype)
            steps.mul(x, _looked_up(ctx, powers, amount), result)
        case "RIGHT" if width == 64:
            _right_64(ctx, steps, x, amount, result, signed=kind.kind == "i")
        case "RIGHT" if kind.name == "uint32":
            bits, places = steps.bitcast(x, "uint32"), steps.cast(steps.minimum(amount, 31), "uint32")
            moved = steps.bitcast(steps.binary("RIGHT_SHIFT", bits, places), "int32")
            steps.select(steps.binary("LESS", amount, 32), moved, 0, result)
        case "RIGHT":
            steps.binary("RIGHT_SHIFT", x, steps.minimum(amount, 31), result)
        case other:
            raise ctx.refuse("direction", repr(other), "LEFT and RIGHT work")


def _amount(steps: Steps, y: Tensor, width: int, kind: np.dtype[np.generic]) -> Tensor:
    """The shift as int32 between 0 and ``width``, which stands for all that are out of range."""
    if y.data is not None:
        exact = y.data.astype(np.int64)
        return steps.ctx.ints(np.where((exact < 0) | (exact >= width), width, exact))
    held = steps.minimum(y, width)
    beyond = steps.binary("LESS", held, 0)
    return steps.cast(steps.select(beyond, width, held), "int32")


def _looked_up(ctx: Lowering, table: Array, places: Tensor) -> Tensor:
    """table[places]."""
    if places.data is not None:
        return ctx.program.constant(table[places.data])
    found = Tensor(ctx.program.name(f"{ctx.result.name}/power"), places.shape, table.dtype, places.dynamic)
    ctx.emit("GATHER", [ctx.program.constant(table), places], [found], "GatherOptions", axis=0, batchDims=0)
    return found


def _right_64(ctx: Lowering, steps: Steps, x: Tensor, amount: Tensor, result: Tensor, *, signed: bool) -> None:
    """floor(x / 2^amount), and for unsigned numbers the highest bit where it belongs."""
    powers = np.array([1 << min(i, 62) for i in range(65)], np.int64)
    divisor = _looked_up(ctx, powers, amount)
    floored = multiple_over(steps, steps.sub(x, steps.binary("FLOOR_MOD", x, divisor)), divisor)
    negative = steps.binary("LESS", x, 0)
    fill = steps.select(negative, ctx.number(-1, np.int64), 0)
    arithmetic = steps.select(steps.binary("LESS", amount, 63), floored, fill, result if signed else None)
    if signed:
        return
    # as int64 a number from 2^63 on is less by 2^64, and so is its shift by 2^(64 - amount)
    missing = np.array([0] + [1 << (64 - i) for i in range(1, 65)], np.uint64).view(np.int64)
    steps.add(arithmetic, steps.select(negative, _looked_up(ctx, missing, amount), 0), result)


_BITS = Float("works on bits")
_INTEGERS: Turns = {name: turn for name, turn in RING.items() if name not in {"float16", "bfloat16"}}


def _row(op: str, lower: Callable[[Lowering], None]) -> Op:
    return Op(op, _BITS, lower=widened(lower, _INTEGERS), types=("int32", "int64", *_INTEGERS))


ROWS = (
    _row("BitwiseAnd", bitwise(_and)),
    _row("BitwiseOr", bitwise(_or)),
    _row("BitwiseXor", bitwise(_xor)),
    _row("BitwiseNot", not_),
    _row("BitShift", shift),
)
