"""Losses over class scores, for models that carry them along."""

from __future__ import annotations

import numpy as np

from exporter.ops.lowering import Layout, Lowering, Tensor, identity
from exporter.ops.op import Float, InputRole, Op
from exporter.ops.softmax import log_softmax
from exporter.ops.steps import Steps
from exporter.ops.widened import REAL, Lower, widened

__all__ = ["ROWS"]


def negative_log_likelihood(ctx: Lowering) -> None:
    """Over log-probabilities [N, C, d...] and class numbers [N, d...]."""
    layout = _classes_last(ctx)
    _loss(ctx, ctx.input(0, layout).tensor)


def cross_entropy(ctx: Lowering) -> None:
    """The same over LOG_SOFTMAX of the scores, which is the second output."""
    layout = _classes_last(ctx)
    scores = ctx.input(0, layout).tensor
    outputs = ctx.node.outputs
    into = ctx.output(layout, 1) if len(outputs) > 1 and outputs[1].name else ctx.temp(scores, tag="log")
    _loss(ctx, log_softmax(ctx, scores, into))


def _classes_last(ctx: Lowering) -> Layout:
    rank = len(ctx.shape(0))
    return (0, *range(2, rank), 1)


def _loss(ctx: Lowering, log: Tensor) -> None:
    """Minus the number that each class picks, times the weight of the class; classes out of range pick nothing."""
    steps, last = Steps(ctx), len(log.shape) - 1
    target = ctx.plain(1)
    truth = [ctx.program.constant(np.asarray(b)) for b in (True, False)]
    hot = Tensor(ctx.program.name(f"{ctx.result.name}/hot"), log.shape, np.dtype(np.bool_), log.dynamic)
    ctx.emit("ONE_HOT", [target, ctx.ints(log.shape[-1]), *truth], [hot], "OneHotOptions", axis=-1)
    loss = steps.unary("NEG", steps.reduce("SUM", steps.select(hot, log, 0.0), [last], keep=False))
    ignored, weight = ctx.attr("ignore_index"), None
    if ctx.has(2):
        weight = steps.reduce("SUM", steps.select(hot, ctx.plain(2), 0.0), [last], keep=False)
    if ignored is not None:
        counts = steps.binary("NOT_EQUAL", target, ignored)
        weight = steps.select(counts, ctx.number(1.0) if weight is None else weight, 0.0)
        loss = steps.select(counts, loss, 0.0)
    reduction = ctx.attr("reduction", "mean")
    if ctx.has(2) and weight is not None:
        loss = steps.mul(loss, weight)
    places = list(range(last))
    result = ctx.output(identity(len(ctx.out_shape())))
    match reduction:
        case "none":
            ctx.program.reshape_into(loss, result)
        case "sum":
            steps.reduce("SUM", loss, places, result, keep=False)
        case "mean" if weight is None:
            steps.reduce("MEAN", loss, places, result, keep=False)
        case "mean" if weight is not None:
            total, count = (steps.reduce("SUM", t, places, keep=False) for t in (loss, weight))
            steps.div(total, count, result)
        case other:
            raise ctx.refuse("reduction", repr(other), "none, sum and mean work")


_NO_INT = Float("no integer kernel in ONNX Runtime")
_INPUTS: tuple[InputRole, ...] = ("activation", "static", "static")


def _row(op: str, lower: Lower) -> Op:
    return Op(op, _NO_INT, _INPUTS, lower=widened(lower, REAL), types=("float32", *REAL))


ROWS = (
    _row("NegativeLogLikelihoodLoss", negative_log_likelihood),
    _row("SoftmaxCrossEntropyLoss", cross_entropy),
)
