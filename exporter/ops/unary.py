"""Functions of one number that have a builtin, or nearly."""

from __future__ import annotations

from exporter.ops.activation import builtin
from exporter.ops.lowering import Lowering
from exporter.ops.op import Float, Op
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, RING, Lower, widened

__all__ = ["ROWS"]

_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")


def reciprocal(ctx: Lowering) -> None:
    """1 / x."""
    view = ctx.input()
    Steps(ctx).div(1.0, view.tensor, ctx.output(view.layout))


def absolute(ctx: Lowering) -> None:
    """ABS, which int64 lacks: max(x, -x). Nothing for unsigned integers."""
    view, steps = ctx.input(), Steps(ctx)
    if ctx.dtype(0).name in _UNSIGNED:
        ctx.alias(view)
    elif view.tensor.dtype.name == "int64":
        steps.maximum(view.tensor, steps.unary("NEG", view.tensor), ctx.output(view.layout))
    else:
        steps.unary("ABS", view.tensor, ctx.output(view.layout))


def sign(ctx: Lowering) -> None:
    """SIGN, or the integer held between -1 and 1; unsigned, whether it is 0."""
    view, steps = ctx.input(), Steps(ctx)
    if ctx.dtype(0).name in _UNSIGNED:
        steps.cast(steps.binary("NOT_EQUAL", view.tensor, 0), view.tensor.dtype, ctx.output(view.layout))
    elif view.tensor.dtype.kind == "f":
        steps.unary("SIGN", view.tensor, ctx.output(view.layout))
    else:
        steps.maximum(steps.minimum(view.tensor, 1), -1, ctx.output(view.layout))


_NO_INT = Float("no integer kernel in ONNX Runtime")
_WHOLE = ("float32", "int32", "int64")
_SIGNED = {name: turn for name, turn in RING.items() if name not in _UNSIGNED}


def _real(op: str, lower: Lower) -> Op:
    return Op(op, _NO_INT, lower=widened(lower, REAL), types=("float32", *REAL))


ROWS = (
    _real("Exp", builtin("EXP")),
    _real("Log", builtin("LOG")),
    _real("Sqrt", builtin("SQRT")),
    _real("Reciprocal", reciprocal),
    _real("Floor", builtin("FLOOR")),
    _real("Ceil", builtin("CEIL")),
    _real("Round", builtin("ROUND")),
    Op("Neg", _NO_INT, lower=widened(builtin("NEG"), _SIGNED), types=(*_WHOLE, *_SIGNED)),
    Op("Abs", _NO_INT, lower=widened(absolute, RING), types=(*_WHOLE, *RING)),
    Op("Sign", _NO_INT, lower=widened(sign, RING), types=(*_WHOLE, *RING)),
)
