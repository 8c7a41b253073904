"""Comparisons, truth values, and what is chosen by them."""

from __future__ import annotations

import math

import numpy as np

from exporter.control import CHOICE
from exporter.ops.elementwise import broadcast, chain
from exporter.ops.lowering import Lowering
from exporter.ops.op import STORED, Float, Op
from exporter.ops.steps import Steps
from exporter.ops.widened import ORDER, REAL, RING, widened

__all__ = ["ROWS"]


def where(ctx: Lowering) -> None:
    """SELECT_V2, which takes every type."""
    if CHOICE in ctx.node.metadata_props and ctx.shape(1) != ctx.shape(2):
        raise ctx.refuse("condition", "computed at run time, between tensors of different shapes", "make it constant")
    tensors, layout = broadcast(ctx)
    ctx.emit("SELECT_V2", tensors, [ctx.output(layout)], "SelectV2Options")


def not_(ctx: Lowering) -> None:
    """LOGICAL_NOT."""
    view = ctx.input()
    Steps(ctx).unary("LOGICAL_NOT", view.tensor, ctx.output(view.layout))


def is_nan(ctx: Lowering) -> None:
    """Only NaN differs from itself."""
    view = ctx.input()
    Steps(ctx).binary("NOT_EQUAL", view.tensor, view.tensor, ctx.output(view.layout))


def is_inf(ctx: Lowering) -> None:
    """Equality with the infinities that are asked for."""
    view, steps = ctx.input(), Steps(ctx)
    x, result = view.tensor, ctx.output(view.layout)
    match bool(ctx.attr("detect_negative", 1)), bool(ctx.attr("detect_positive", 1)):
        case True, True:
            steps.binary("EQUAL", steps.unary("ABS", x), math.inf, result)
        case False, True:
            steps.binary("EQUAL", x, math.inf, result)
        case True, False:
            steps.binary("EQUAL", x, -math.inf, result)
        case _:
            steps.binary("LESS", x, -math.inf, result)


_LOGIC = Float("works on truth values")
_BOOL = (np.dtype(np.bool_).name,)
_NUMBERS = ("float32", "int32", "int64")


def _comparison(op: str, code: str) -> Op:
    return Op(op, _LOGIC, lower=widened(chain(code), ORDER), types=(*_NUMBERS, *ORDER))


ROWS = (
    Op("Equal", _LOGIC, lower=widened(chain("EQUAL"), RING), types=(*_NUMBERS, "bool", *RING)),
    _comparison("Greater", "GREATER"),
    _comparison("GreaterOrEqual", "GREATER_EQUAL"),
    _comparison("Less", "LESS"),
    _comparison("LessOrEqual", "LESS_EQUAL"),
    Op("And", _LOGIC, lower=chain("LOGICAL_AND"), types=_BOOL),
    Op("Or", _LOGIC, lower=chain("LOGICAL_OR"), types=_BOOL),
    Op("Xor", _LOGIC, lower=chain("NOT_EQUAL"), types=_BOOL),
    Op("Not", _LOGIC, lower=not_, types=_BOOL),
    Op("IsNaN", _LOGIC, lower=widened(is_nan, REAL), types=("float32", *REAL)),
    Op("IsInf", _LOGIC, lower=widened(is_inf, REAL), types=("float32", *REAL)),
    Op("Where", Float("chooses by truth values"), ("static", "activation", "activation"), lower=where, types=STORED),
)
