"""Circular and hyperbolic functions and their inverses, precise where the textbook forms cancel or overflow."""

from __future__ import annotations

from exporter.ops.activation import builtin
from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.op import Float, Op
from exporter.ops.smooth import log_one_plus
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, Lower, widened

__all__ = ["ROWS"]

_FAR = 1e9  # from here on sqrt(1 + x^2) is |x| in float32


def tan(ctx: Lowering) -> None:
    """sin / cos."""
    view, steps = ctx.input(), Steps(ctx)
    steps.div(steps.unary("SIN", view.tensor), steps.unary("COS", view.tensor), ctx.output(view.layout))


def _cosine(steps: Steps, x: Tensor) -> Tensor:
    """sqrt(1 - x^2) without squaring: 1 - x^2 cancels near 1."""
    return steps.unary("SQRT", steps.mul(steps.sub(1.0, x), steps.add(x, 1.0)))


def asin(ctx: Lowering) -> None:
    """ATAN2 of sine and cosine."""
    view, steps = ctx.input(), Steps(ctx)
    steps.binary("ATAN2", view.tensor, _cosine(steps, view.tensor), ctx.output(view.layout))


def acos(ctx: Lowering) -> None:
    """ATAN2 of sine and cosine."""
    view, steps = ctx.input(), Steps(ctx)
    steps.binary("ATAN2", _cosine(steps, view.tensor), view.tensor, ctx.output(view.layout))


def atan(ctx: Lowering) -> None:
    """ATAN2 beside a tensor of ones: it does not broadcast."""
    view, steps = ctx.input(), Steps(ctx)
    ones = steps.maximum(steps.minimum(view.tensor, 1.0), 1.0)
    steps.binary("ATAN2", view.tensor, ones, ctx.output(view.layout))


def _cosh(steps: Steps, x: Tensor, into: Tensor | None = None) -> Tensor:
    """(e^|x| + e^-|x|) / 2 from e^(|x|/2), which does not overflow before the result does."""
    root = steps.unary("EXP", steps.mul(steps.unary("ABS", x), 0.5))
    rising, falling = steps.mul(steps.mul(root, 0.5), root), steps.div(0.5, steps.mul(root, root))
    return steps.add(rising, falling, into)


def cosh(ctx: Lowering) -> None:
    view = ctx.input()
    _cosh(Steps(ctx), view.tensor, ctx.output(view.layout))


def sinh(ctx: Lowering) -> None:
    """tanh * cosh: nothing cancels."""
    view, steps = ctx.input(), Steps(ctx)
    steps.mul(steps.unary("TANH", view.tensor), _cosh(steps, view.tensor), ctx.output(view.layout))


def asinh(ctx: Lowering) -> None:
    """sign(x) log(1 + |x| + x^2 / (1 + sqrt(1 + x^2)))."""
    view, steps = ctx.input(), Steps(ctx)
    size = steps.unary("ABS", view.tensor)
    near = steps.minimum(size, _FAR)
    root = steps.unary("SQRT", steps.add(steps.mul(near, near), 1.0))
    ratio = steps.div(near, steps.add(root, 1.0))
    rest = log_one_plus(steps, steps.add(size, steps.mul(size, ratio)))
    steps.mul(steps.unary("SIGN", view.tensor), rest, ctx.output(view.layout))


def acosh(ctx: Lowering) -> None:
    """log(1 + t + sqrt(t (t + 2))) with t = x - 1, which is exact near 1."""
    view, steps = ctx.input(), Steps(ctx)
    t = steps.sub(view.tensor, 1.0)
    root = steps.mul(steps.unary("SQRT", t), steps.unary("SQRT", steps.add(t, 2.0)))
    log_one_plus(steps, steps.add(t, root), ctx.output(view.layout))


def atanh(ctx: Lowering) -> None:
    """sign(x) log(1 + 2|x| / (1 - |x|)) / 2; the root makes it NaN beyond 1."""
    view, steps = ctx.input(), Steps(ctx)
    size = steps.unary("ABS", view.tensor)
    root = steps.unary("SQRT", steps.sub(1.0, size))
    rest = log_one_plus(steps, steps.div(steps.mul(size, 2.0), steps.mul(root, root)))
    steps.mul(steps.mul(steps.unary("SIGN", view.tensor), 0.5), rest, ctx.output(view.layout))


_NO_INT = Float("no integer kernel in ONNX Runtime")


def _row(op: str, lower: Lower) -> Op:
    return Op(op, _NO_INT, lower=widened(lower, REAL), types=("float32", *REAL))


ROWS = (
    _row("Sin", builtin("SIN")),
    _row("Cos", builtin("COS")),
    _row("Tan", tan),
    _row("Asin", asin),
    _row("Acos", acos),
    _row("Atan", atan),
    _row("Sinh", sinh),
    _row("Cosh", cosh),
    _row("Asinh", asinh),
    _row("Acosh", acosh),
    _row("Atanh", atanh),
)
