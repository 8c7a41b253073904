"""Smooth activations and the error function: precise near zero, without overflow far from it."""

from __future__ import annotations

from exporter.ops.activation import builtin
from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.op import NO_INT16, Fixed, Float, Free, Op, Same, Within
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, Lower, widened

__all__ = ["ROWS", "log_one_plus", "polynomial"]

# erf(x) = tanh(x P(x^2)) within 2.4e-7 relative: minimax fit of atanh(erf x) / x over [0, 4.2], beyond which both are 1
_ERF = (
    1.128379225730896, 0.10276972502470016, -0.00019326429173815995, -0.0006186285754665732,
    8.723091013962403e-05, -5.60629996471107e-06, 1.3850782920599158e-07,
)  # fmt: skip
# log(1 + y) = s P(s^2), s = y / (2 + y), within 4e-9 relative for y in [0, 1]: minimax fit of 2 atanh(s) / s
_LOG = (2.0, 0.6666631698608398, 0.4002492129802704, 0.2796042859554291, 0.28179284930229187)


def polynomial(steps: Steps, x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Sum of coefficients[i] x^i, by Horner's rule."""
    *rest, last = coefficients
    result = steps.add(steps.mul(x, last), rest.pop())
    while rest:
        result = steps.add(steps.mul(result, x), rest.pop())
    return result


def log_one_plus(steps: Steps, y: Tensor, into: Tensor | None = None, *, bounded: bool = False) -> Tensor:
    """log(1 + y) of y >= 0, exact for small y, where LOG loses what 1 + y has rounded away. bounded: y is at most 1."""
    small = y if bounded else steps.minimum(y, 1.0)
    s = steps.div(small, steps.add(small, 2.0))
    series = steps.mul(s, polynomial(steps, steps.mul(s, s), _LOG), into if bounded else None)
    if bounded:
        return series
    # (1 + y) / 2 for the rest: the series gives log 2, and up to y = 1 the second part is log 1
    return steps.add(series, steps.unary("LOG", steps.maximum(steps.add(steps.mul(y, 0.5), 0.5), 1.0)), into)


def erf(ctx: Lowering) -> None:
    """TFLite has no ERF."""
    view, steps = ctx.input(), Steps(ctx)
    inner = polynomial(steps, steps.mul(view.tensor, view.tensor), _ERF)
    steps.unary("TANH", steps.mul(view.tensor, inner), ctx.output(view.layout))


def softplus(ctx: Lowering) -> None:
    """max(x, 0) + log(1 + exp(-|x|))."""
    view, steps = ctx.input(), Steps(ctx)
    decay = steps.unary("EXP", steps.unary("NEG", steps.unary("ABS", view.tensor)))
    rest = log_one_plus(steps, decay, bounded=True)
    steps.add(steps.unary("RELU", view.tensor), rest, ctx.output(view.layout))


def softsign(ctx: Lowering) -> None:
    """x / (1 + |x|)."""
    view, steps = ctx.input(), Steps(ctx)
    steps.div(view.tensor, steps.add(steps.unary("ABS", view.tensor), 1.0), ctx.output(view.layout))


def mish(ctx: Lowering) -> None:
    """x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2) (Misra 2019); from x = 20 on the factor is 1."""
    view, steps = ctx.input(), Steps(ctx)
    grown = steps.unary("EXP", steps.minimum(view.tensor, 20.0))
    n = steps.mul(grown, steps.add(grown, 2.0))
    steps.mul(view.tensor, steps.div(n, steps.add(n, 2.0)), ctx.output(view.layout))


def swish(ctx: Lowering) -> None:
    """x * sigmoid(alpha x)."""
    view, steps, alpha = ctx.input(), Steps(ctx), float(ctx.attr("alpha", 1.0))
    scaled = view.tensor if alpha == 1.0 else steps.mul(view.tensor, alpha)
    steps.mul(view.tensor, steps.unary("LOGISTIC", scaled), ctx.output(view.layout))


def swiglu(ctx: Lowering) -> None:
    """Swish of the gate, times the value (Shazeer 2020)."""
    gate = ctx.input(0)
    value, steps, alpha = ctx.input(1, gate.layout).tensor, Steps(ctx), float(ctx.attr("alpha", 1.0))
    scaled = gate.tensor if alpha == 1.0 else steps.mul(gate.tensor, alpha)
    steps.mul(steps.mul(gate.tensor, steps.unary("LOGISTIC", scaled)), value, ctx.output(gate.layout))


_NO_INT = Float("no integer kernel in ONNX Runtime")


def _row(op: str, lower: Lower, rule: Fixed | Float | Free = _NO_INT, int16: Fixed | Float | Same = NO_INT16) -> Op:
    return Op(op, rule, lower=widened(lower, REAL), types=("float32", *REAL), int16=int16)


_WITHIN = Within()  # a finer step than the input's would end inside TFLite's table of 16 bits: 48 steps off there


ROWS = (
    _row("Sigmoid", builtin("LOGISTIC"), Fixed(1 / 256, -128), Fixed(1 / 32768, 0)),
    _row("Tanh", builtin("TANH"), Fixed(1 / 128, 0), Fixed(1 / 32768, 0)),
    _row("Gelu", builtin("GELU", approximate=lambda ctx: ctx.attr("approximate", "none") == "tanh"), Free(), _WITHIN),
    _row("Erf", erf),
    _row("Softplus", softplus),
    _row("Softsign", softsign),
    _row("Mish", mish),
    _row("Swish", swish),
    _row("SwiGLU", swiglu),
)
