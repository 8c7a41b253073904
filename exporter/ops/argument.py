"""ArgMax and ArgMin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.op import Float, Op
from exporter.ops.reduce import removed
from exporter.ops.steps import Steps
from exporter.ops.widened import ORDER, Turns, widened

__all__ = ["ROWS"]

_INT64 = 4  # TensorType.INT64


def argument(code: str, extreme: str) -> Callable[[Lowering], None]:
    """``code`` along one axis; of int64, which it does not take, the first place equal to the extreme."""

    def lower(ctx: Lowering) -> None:
        view, axis, steps = ctx.input(), ctx.attr("axis", 0) % len(ctx.shape(0)), Steps(ctx)
        spot, keep, last = view.layout.index(axis), bool(ctx.attr("keepdims", 1)), ctx.attr("select_last_index", 0)
        source, kernel = view.tensor, code
        if 0 in ctx.shape(0):
            raise ctx.refuse("data", "no elements", "at least one along the axis works")
        if source.dtype == np.int64:
            source, kernel = steps.binary("EQUAL", source, steps.reduce(extreme, source, [spot])), "ARG_MAX"
        if last:
            reverse = ctx.program.temp(source, source.shape, source.dynamic, f"{ctx.result.name}/reversed")
            ctx.emit("REVERSE_V2", [source, ctx.ints([spot])], [reverse], "ReverseV2Options")
            source = reverse
        result = ctx.output(view.layout if keep else removed(view.layout, {axis}))
        shape = tuple(s for i, s in enumerate(source.shape) if i != spot)
        dynamic = frozenset(i - (i > spot) for i in source.dynamic if i != spot)
        place = result if not (keep or last) else _index(ctx, shape, dynamic)
        options = "ArgMaxOptions" if kernel == "ARG_MAX" else "ArgMinOptions"
        ctx.emit(kernel, [source, ctx.ints(spot)], [place], options, outputType=_INT64)
        if last:
            if spot in source.dynamic:
                raise ctx.refuse("select_last_index", "1 along the batch", "another axis works")
            place = steps.sub(source.shape[spot] - 1, place, None if keep else result)
        if keep:
            ctx.program.reshape_into(place, result)

    return lower


def _index(ctx: Lowering, shape: tuple[int, ...], dynamic: frozenset[int]) -> Tensor:
    return Tensor(ctx.program.name(f"{ctx.result.name}/index"), shape, np.dtype(np.int64), dynamic)


_NO_INT = Float("no integer kernel in ONNX Runtime")
_TURNS: Turns = {name: turn for name, turn in ORDER.items() if name not in {"int8", "uint8"}}
_TYPES = ("float32", "int32", "int64", *ORDER)

ROWS = (
    Op("ArgMax", _NO_INT, lower=widened(argument("ARG_MAX", "REDUCE_MAX"), _TURNS), types=_TYPES),
    Op("ArgMin", _NO_INT, lower=widened(argument("ARG_MIN", "REDUCE_MIN"), _TURNS), types=_TYPES),
)
