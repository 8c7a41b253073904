"""Choosing elements: the largest, one of many, a triangle."""

from __future__ import annotations

import numpy as np

from exporter.ops.carrier import carried, delivering
from exporter.ops.integers import Integers
from exporter.ops.lowering import NEW, Lowering, Tensor, View
from exporter.ops.op import STORED, Float, Op, Same

__all__ = ["ROWS"]

_SORTED = ("float32", "int64", "int32", "int16", "int8", "uint8")  # what TOPK_V2 takes
_WIDER = {"float16": np.float32, "bfloat16": np.float32, "uint16": np.int32, "uint32": np.int64}
_HOT = ("float32", "int64", "int32", "int8", "uint8", "bool")  # what ONE_HOT gives


def top_k(ctx: Lowering) -> None:
    """TOPK_V2 along the last axis; for the smallest, of the numbers turned round."""
    rank = len(ctx.shape(0))
    axis = ctx.attr("axis", -1) % rank
    count = int(np.asarray(ctx.static(1, "k")).item())
    smallest = not ctx.attr("largest", 1)
    layout = (*(a for a in ctx.input().axes if a != axis), axis)
    source = ctx.input(0, layout).tensor
    keys = _keys(ctx, source, smallest)
    values = ctx.output(layout)
    places = Integers(ctx).new(np.int32, values.shape, values.dynamic, "places")
    best = values if keys is source else Tensor(f"{places.name}/best", values.shape, keys.dtype, values.dynamic)
    ctx.emit("TOPK_V2", [keys, ctx.number(count, np.int32)], [best, places], "TopKV2Options")
    if keys is not source:
        with delivering(ctx, values) as target:
            ctx.emit("GATHER", [carried(ctx, source), places], [target], "GatherOptions",
                     axis=rank - 1, batchDims=rank - 1)  # fmt: skip
    ctx.emit("CAST", [places], [ctx.output(layout, 1)], "CastOptions")


def _keys(ctx: Lowering, source: Tensor, smallest: bool) -> Tensor:
    """Numbers of a type that TOPK_V2 takes and of the same order (the reverse one for ``smallest``)."""
    steps = Integers(ctx)
    name = source.dtype.name
    keys = source
    if name == "uint64":
        keys = steps.binary("ADD", carried(ctx, source, ("int64",)), np.iinfo(np.int64).min)
    elif name in _WIDER:
        keys = steps.cast(source, _WIDER[name])
    elif name not in _SORTED:
        raise ctx.refuse("type", name, f"can be {', '.join((*_SORTED, *_WIDER, 'uint64'))}")
    if not smallest:
        return keys
    if keys.dtype.kind == "f":
        turned = steps.new(keys.dtype, keys.shape, keys.dynamic)
        ctx.emit("NEG", [keys], [turned], "NegOptions")
        return turned
    if keys.dtype.itemsize < 4:
        keys = steps.cast(keys, np.int32)
    return steps.binary("SUB", steps.constant(-1, keys.dtype), keys)  # of every number there is one, unlike 0 - x


def one_hot(ctx: Lowering) -> None:
    """ONE_HOT; where it lacks the type, SELECT_V2 between the two numbers."""
    depth = int(np.asarray(ctx.static(1, "depth")).item())
    steps = Integers(ctx)
    indices = ctx.plain(0)
    if indices.dtype.name not in {"int32", "int64"}:
        indices = steps.cast(indices, np.int64 if indices.dtype.kind == "f" else np.int32)
    if depth < 1:
        raise ctx.refuse("depth", str(depth), "at least 1")
    indices = steps.select(steps.binary("LESS", indices, 0), steps.binary("ADD", indices, depth), indices)
    off, on = (_number(ctx, i) for i in (0, 1))
    result = ctx.output()
    axis = ctx.attr("axis", -1) % len(result.shape)
    place = -1 if axis == len(result.shape) - 1 else axis
    if on.dtype.name in _HOT:
        ctx.emit("ONE_HOT", [indices, ctx.number(depth, np.int32), on, off], [result], "OneHotOptions", axis=place)
        return
    hot = steps.new(np.bool_, result.shape, result.dynamic)
    truths = [steps.constant(t, np.bool_) for t in (True, False)]
    ctx.emit("ONE_HOT", [indices, ctx.number(depth, np.int32), *truths], [hot], "OneHotOptions", axis=place)
    ctx.emit("SELECT_V2", [hot, on, off], [result], "SelectV2Options")


def _number(ctx: Lowering, index: int) -> Tensor:
    """Element ``index`` of the values [off, on]."""
    values = ctx.plain(2)
    steps = Integers(ctx)
    if values.data is not None:
        return ctx.program.constant(values.data[index])
    bits = carried(ctx, values)
    number = steps.new(values.dtype, ())
    with delivering(ctx, number) as target:
        ctx.emit("GATHER", [bits, steps.constant(index)], [target], "GatherOptions", axis=0, batchDims=0)
    return number


def trilu(ctx: Lowering) -> None:
    """SELECT_V2 between the input and zero, by the distance from the diagonal."""
    rank, (rows, columns) = len(ctx.shape(0)), ctx.shape(0)[-2:]
    view = ctx.input()
    if {view.layout[i] for i in view.tensor.dynamic} & {rank - 2, rank - 1}:
        raise ctx.refuse("input", "a side of the triangle follows the batch", "export with a fixed batch")
    steps = Integers(ctx)
    upper = ctx.attr("upper", 1)
    across = np.arange(columns)[None] - np.arange(rows)[:, None]
    distance = steps.constant(across, np.int64)
    if not ctx.has(1):
        bound = steps.constant(0, np.int64)
    else:
        bound = steps.cast(ctx.plain(1), np.int64)
        bound = steps.reshape(bound, ())
    keep = steps.binary("GREATER_EQUAL" if upper else "LESS_EQUAL", distance, bound)
    wanted = tuple(a - (rank - 2) if a >= rank - 2 else NEW for a in view.layout)
    keep = ctx.program.convert(View(keep, (0, 1)), wanted).tensor
    quant = view.tensor.quant
    zero = ctx.program.constant(np.asarray(0 if quant is None else quant.zero_point, view.tensor.dtype), quant)
    ctx.emit("SELECT_V2", [keep, view.tensor, zero], [ctx.output(view.layout)], "SelectV2Options")


_BY_VALUE = Float("chooses by value")

ROWS = (
    Op("TopK", _BY_VALUE, ("activation", "static"), lower=top_k, types=STORED, ignores=("sorted",)),
    Op("OneHot", _BY_VALUE, ("activation", "static", "static"), lower=one_hot, types=STORED),
    Op("Trilu", Same(), ("activation", "static"), lower=trilu, types=STORED, int16=Same()),
)
