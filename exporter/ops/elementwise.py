"""Arithmetic on two or more tensors, with broadcasting under any layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from exporter.control import CHOICE
from exporter.ops.lowering import NEW, Layout, Lowering, Tensor, identity
from exporter.ops.op import NUMBERS, STORED, Float, Free, Op

__all__ = ["ROWS", "aligned", "broadcast"]


def broadcast(ctx: Lowering, indices: Sequence[int] | None = None) -> tuple[list[Tensor], Layout]:
    """The inputs laid out so that TFLite broadcasts them as ONNX does, and the layout of the result."""
    indices = range(len(ctx.node.inputs)) if indices is None else indices
    rank = len(ctx.out_shape())
    layout = identity(rank)
    views = {i: ctx.input(i) for i in indices}
    full = [i for i in indices if len(ctx.shape(i)) == rank and views[i].tensor.data is None]
    if full:  # the largest computed operand stays as it lies
        layout = views[max(full, key=lambda i: int(np.prod(ctx.shape(i))))].layout
    return [aligned(ctx, i, layout, rank) for i in indices], layout


def aligned(ctx: Lowering, index: int, layout: Layout, rank: int) -> Tensor:
    """Input ``index`` with its trailing axes under those of ``layout``; leading ones of a constant are dropped."""
    lead = rank - len(ctx.shape(index))
    wanted = tuple(a - lead if a >= lead else NEW for a in layout)
    tensor = ctx.program.convert(ctx.input(index), wanted).tensor
    if tensor.data is None:
        return tensor
    shape = tensor.shape
    while shape and shape[0] == 1:
        shape = shape[1:]
    quant = tensor.quant if tensor.quant is None or tensor.quant.axis is None else None
    return tensor if quant is not tensor.quant else ctx.program.constant(tensor.data.reshape(shape), quant, tensor.name)


def binary(code: str, options: str, *, fuses: bool = True) -> Callable[[Lowering], None]:
    """A builtin of two operands; longer ONNX lists (Max, Sum …) are chained."""

    def lower(ctx: Lowering) -> None:
        tensors, layout = broadcast(ctx)
        fields = {"fusedActivationFunction": ctx.fused} if fuses else {}
        if len(tensors) == 1:
            ctx.alias(ctx.input(0))
            return
        left = tensors[0]
        for number, right in enumerate(tensors[1:], 2):
            if number == len(tensors):
                result = ctx.output(layout)
            else:
                shape = np.broadcast_shapes(left.shape, right.shape)
                result = ctx.program.temp(left, shape, left.dynamic | right.dynamic, f"{ctx.result.name}/part")
            ctx.emit(code, [left, right], [result], options, **fields)
            left = result

    return lower


def power(ctx: Lowering) -> None:
    """Squares and square roots by name, else POW."""
    exponent = ctx.const(1)
    view = ctx.input(0)
    if exponent is not None and exponent.size == 1 and len(ctx.shape(0)) >= exponent.ndim:
        if float(exponent.item()) == 2.0:
            ctx.emit("MUL", [view.tensor, view.tensor], [ctx.output(view.layout)], "MulOptions",
                     fusedActivationFunction="NONE")  # fmt: skip
            return
        if float(exponent.item()) == 0.5:
            ctx.emit("SQRT", [view.tensor], [ctx.output(view.layout)])
            return
    tensors, layout = broadcast(ctx)
    ctx.emit("POW", tensors, [ctx.output(layout)], "PowOptions")


def where(ctx: Lowering) -> None:
    """SELECT_V2."""
    if CHOICE in ctx.node.metadata_props and ctx.shape(1) != ctx.shape(2):
        raise ctx.refuse("condition", "computed at run time, between tensors of different shapes", "make it constant")
    tensors, layout = broadcast(ctx)
    ctx.emit("SELECT_V2", tensors, [ctx.output(layout)], "SelectV2Options")


_NO_INT = Float("no integer kernel in ONNX Runtime")
_LOGIC = Float("works on truth values")


def _row(op: str, code: str, options: str, rule: Free | Float, *, types: tuple[str, ...] = NUMBERS) -> Op:
    fuses = op in {"Add", "Sub", "Mul", "Div"}
    return Op(op, rule, lower=binary(code, options, fuses=fuses), fuses=fuses, types=types)


ROWS = (
    _row("Add", "ADD", "AddOptions", Free()),
    _row("Sub", "SUB", "SubOptions", Free()),
    _row("Mul", "MUL", "MulOptions", Free()),
    _row("Div", "DIV", "DivOptions", _NO_INT, types=("float32",)),
    _row("Min", "MINIMUM", "MaximumMinimumOptions", _NO_INT),
    _row("Max", "MAXIMUM", "MaximumMinimumOptions", _NO_INT),
    _row("Equal", "EQUAL", "EqualOptions", _LOGIC, types=(*NUMBERS, "bool")),
    _row("Greater", "GREATER", "GreaterOptions", _LOGIC),
    _row("GreaterOrEqual", "GREATER_EQUAL", "GreaterEqualOptions", _LOGIC),
    _row("Less", "LESS", "LessOptions", _LOGIC),
    _row("LessOrEqual", "LESS_EQUAL", "LessEqualOptions", _LOGIC),
    _row("And", "LOGICAL_AND", "LogicalAndOptions", _LOGIC, types=("bool",)),
    _row("Or", "LOGICAL_OR", "LogicalOrOptions", _LOGIC, types=("bool",)),
    Op("Pow", _NO_INT, lower=power),
    Op("Where", _NO_INT, ("static", "activation", "activation"), lower=where, types=STORED),
)
