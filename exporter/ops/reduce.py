"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from exporter.ops.lowering import NEW, Array, Layout, Lowering, Tensor, View, identity
from exporter.ops.op import NO_INT16, Float, Free, InputRole, Op, Same
from exporter.ops.steps import Steps
from exporter.ops.widened import BOUNDS, BOUNDS_TAKE, REAL, RING, Lower, Turns, widened

__all__ = ["ROWS", "removed"]

_HUGE = float(np.finfo(np.float32).max)


def removed(layout: Layout, axes: set[int]) -> Layout:
    """The layout of what is left when ``axes`` of the value (and their physical axes) are gone."""
    kept = sorted(a for a in layout if a != NEW and a not in axes)
    return tuple(NEW if a == NEW else kept.index(a) for a in layout if a not in axes)


@dataclass(frozen=True, slots=True)
class Reduction:
    """One reduction of ``source`` over physical ``places``, to be written into ``into``."""

    steps: Steps
    source: Tensor
    places: list[int]
    into: Tensor
    keep: bool

    def by(self, code: str, tensor: Tensor) -> None:
        """The builtin, as the last step."""
        self.steps.reduce(code, tensor, self.places, self.into, keep=self.keep)

    def first(self, code: str, tensor: Tensor, *, keep: bool | None = None) -> Tensor:
        """The builtin, with something to follow."""
        return self.steps.reduce(code, tensor, self.places, keep=self.keep if keep is None else keep)


Body = Callable[[Reduction], None]


def _l1(r: Reduction) -> None:
    size = r.steps.maximum(r.source, r.steps.unary("NEG", r.source)) if r.source.dtype == np.int64 else None
    r.by("SUM", size or r.steps.unary("ABS", r.source))


def _l2(r: Reduction) -> None:
    r.steps.unary("SQRT", r.first("SUM", r.steps.mul(r.source, r.source)), r.into)


def _sum_square(r: Reduction) -> None:
    r.by("SUM", r.steps.mul(r.source, r.source))


def _log_sum(r: Reduction) -> None:
    r.steps.unary("LOG", r.first("SUM", r.source), r.into)


def _log_sum_exp(r: Reduction) -> None:
    """log(sum(exp(x - m))) + m with m the largest, held finite so that infinities do not meet."""
    steps = r.steps
    top = steps.minimum(steps.maximum(r.first("REDUCE_MAX", r.source, keep=True), -_HUGE), _HUGE)
    total = r.first("SUM", steps.unary("EXP", steps.sub(r.source, top)))
    flat = top if r.keep else steps.ctx.program.reshape(top, total.shape, total.dynamic)
    steps.add(steps.unary("LOG", total), flat, r.into)


def reduction(body: Body | str, empty: float) -> Lower:
    """A reduction, as a whole or by its builtin; ``empty`` is what it gives for no elements at all."""

    def lower(ctx: Lowering) -> None:
        rank = len(ctx.shape(0))
        axes = ctx.static(1, "axes", ctx.attr("axes"))
        noop = ctx.attr("noop_with_empty_axes", 0)
        keep = bool(ctx.attr("keepdims", 1))
        if not axes:
            axes = [] if noop else list(range(rank))
        wanted = {int(a) % rank for a in axes}
        if 0 in ctx.shape(0) and 0 not in ctx.out_shape():
            _nothing(ctx, empty)
            return
        view = ctx.input()
        if not wanted and isinstance(body, str):
            ctx.alias(view)
            return
        places = [view.layout.index(a) for a in sorted(wanted)]
        result = ctx.output(view.layout if keep else removed(view.layout, wanted))
        whole = Reduction(Steps(ctx), view.tensor, places, result, keep)
        if isinstance(body, str):
            whole.by(body, view.tensor)
        else:
            body(whole)

    return lower


def _nothing(ctx: Lowering, empty: float) -> None:
    value = ctx.node.outputs[0]
    if value.dtype is None or ctx.values.dynamic(value):
        raise ctx.refuse("data", "no elements", "a reduction of at least one element works")
    kind = np.dtype(value.dtype.numpy())
    if math.isinf(empty) and kind.kind in "iu":
        empty = np.iinfo(kind).min if empty < 0 else np.iinfo(kind).max
    array: Array = np.full(ctx.out_shape(), empty if kind.kind != "b" else empty > 0).astype(kind)
    ctx.values.bind(value, View(ctx.program.constant(array), identity(array.ndim)))


def extreme(code: str, of_bools: str, empty: float) -> Lower:
    """REDUCE_MAX or REDUCE_MIN; of truth values REDUCE_ANY or REDUCE_ALL."""
    numbers, bools = widened(reduction(code, empty), BOUNDS), reduction(of_bools, empty)

    def lower(ctx: Lowering) -> None:
        (bools if ctx.input().tensor.dtype.kind == "b" else numbers)(ctx)

    return lower


_NO_INT = Float("no integer kernel in ONNX Runtime")
_INPUTS: tuple[InputRole, ...] = ("activation", "static")
_ORDERED = (*BOUNDS_TAKE, "bool")
_SIZES: Turns = {name: turn for name, turn in RING.items() if name not in {"uint32", "uint64"}}


def _row(
    op: str,
    body: Body | str,
    empty: float,
    turns: Turns = RING,
    rule: Free | Float = _NO_INT,
    int16: Free | Float = NO_INT16,
) -> Op:
    whole = () if turns is REAL else ("int32", "int64")
    types = ("float32", *whole, *turns)
    return Op(op, rule, _INPUTS, lower=widened(reduction(body, empty), turns), types=types, int16=int16)


ROWS = (
    _row("ReduceMean", "MEAN", math.nan, _SIZES, Free(), Free()),
    _row("ReduceSum", "SUM", 0.0),
    _row("ReduceProd", "REDUCE_PROD", 1.0),
    _row("ReduceL1", _l1, 0.0, _SIZES),
    _row("ReduceSumSquare", _sum_square, 0.0),
    _row("ReduceL2", _l2, 0.0, REAL),
    _row("ReduceLogSum", _log_sum, -math.inf, REAL),
    _row("ReduceLogSumExp", _log_sum_exp, -math.inf, REAL),
    Op(
        "ReduceMax", Same(), _INPUTS, lower=extreme("REDUCE_MAX", "REDUCE_ANY", -math.inf), types=_ORDERED, int16=Same()
    ),
    Op("ReduceMin", Same(), _INPUTS, lower=extreme("REDUCE_MIN", "REDUCE_ALL", math.inf), types=_ORDERED, int16=Same()),
)
