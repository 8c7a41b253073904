"""Matrix products: FULLY_CONNECTED where the right matrix is constant, else BATCH_MATMUL, which reads either operand
transposed, so that a product seldom needs a TRANSPOSE.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.conv import bias_tensor
from exporter.ops.expansion import Expansion, Operand
from exporter.ops.lowering import NEW, Array, Layout, Lowering, Quant, Tensor, View, identity
from exporter.ops.op import Free, Op
from exporter.ops.stored import weight_tensor

__all__ = ["ROWS", "plain_gemm"]

_HIGHEST_RANK = 5  # tflite/kernels/batch_matmul.cc


def matmul(ctx: Lowering) -> None:
    """Operands of every rank; one dimension stands for a row on the left and for a column on the right."""
    left, right = len(ctx.shape(0)), len(ctx.shape(1))
    found = ctx.weights(1)
    if found is None or right > 2:
        _batch_matmul(ctx, left, right)
        return
    weight, quant = found
    matrix = weight.T if right == 2 else weight.reshape(1, -1)
    source = _rows(ctx, left)
    last = left + right - 3 if right == 2 else NEW
    _fully_connected(ctx, source.tensor, matrix, _other_axis(quant), None, (*source.layout[:-1], last))


def gemm(ctx: Lowering) -> None:
    """FULLY_CONNECTED; alpha and beta go into the constants. A may have more dimensions (see exporter.emit._bias)."""
    found = ctx.weights(1)
    assert found is not None
    assert not ctx.attr("transA", 0), "written out by gemm_by_parts"
    weight, quant = found
    if not ctx.attr("transB", 0):
        weight, quant = weight.T, _other_axis(quant)
    alpha, beta = float(ctx.attr("alpha", 1.0)), float(ctx.attr("beta", 1.0))
    if alpha != 1.0:
        weight = (weight * np.float32(alpha)).astype(np.float32)
    source, columns = _rows(ctx, len(ctx.shape(0))), weight.shape[0]
    bias = ctx.const(2)
    if bias is None or (bias.shape == (columns,) and beta == 1.0):
        extra = bias_tensor(ctx, 2, columns, source.tensor, quant)
    else:
        extra = ctx.number(np.broadcast_to(bias.reshape(-1) * np.float32(beta), (columns,)))
    _fully_connected(ctx, source.tensor, weight, quant, extra, source.layout)


def gemm_by_parts(e: Expansion) -> None:
    """Gemm whose B or C is computed, that transposes A, or that adds a whole matrix: MatMul, Mul and Add."""
    alpha, beta = float(e.attr("alpha", 1.0)), float(e.attr("beta", 1.0))
    across, down = e.attr("transA", 0), e.attr("transB", 0)
    columns = e.shape(1)[0 if down else 1]
    bias = e.const(2) if e.has(2) else np.zeros(1, np.float32)
    column = bias is None and e.has(2) and graph.is_constant(e.input(2))  # int32 behind a DequantizeLinear
    column = column or (bias is not None and bias.shape in {(), (1,), (1, 1), (columns,), (1, columns)})
    if graph.is_constant(e.input(1)) and column and not across:
        return
    operands = [
        e.op("Transpose", e.input(i), perm=(1, 0)) if turn else e.input(i) for i, turn in ((0, across), (1, down))
    ]
    result: Operand = e.scaled(e.op("MatMul", *operands), alpha)
    if e.has(2) and beta != 0.0:
        result = e.op("Add", result, e.scaled(e.input(2), beta))
    e.finish(result)


def _other_axis(quant: Quant | None) -> Quant | None:
    if quant is None or quant.axis is None:
        return quant
    scale, zero_point = (quant.scale.T, quant.zero_point.T) if quant.block else (quant.scale, quant.zero_point)
    return Quant(scale, zero_point, 1 - quant.axis, quant.block)


def _rows(ctx: Lowering, rank: int) -> View:
    """Input 0 with the axis that is summed over last; the others may lie in any order."""
    view = ctx.input(0)
    if rank == 1:
        return ctx.program.convert(view, (NEW, 0))
    return view if view.layout[-1] == rank - 1 else ctx.program.convert(view, identity(rank))


def _fully_connected(
    ctx: Lowering, source: Tensor, weight: Array, quant: Quant | None, bias: Tensor | None, layout: Layout
) -> None:
    order = ctx.values.flat_order(ctx.node.inputs[0])  # a feature map flattened channels-last
    value = ctx.node.inputs[1]
    name = (value.name if value is not None else None) or "weight"
    if order is not None:
        if quant is not None and quant.block:  # the new order takes groups apart
            weight, quant = quant.real(weight), None
        weight = weight[:, order]
    filters = weight_tensor(ctx, weight, quant, name, "linear")
    result = ctx.output(layout)
    fields = {"fusedActivationFunction": ctx.fused, "keepNumDims": len(result.shape) > 2}
    if filters.quant is not None and source.quant is None:
        fields["asymmetricQuantizeInputs"] = True  # as XNNPACK does it in any case
    ctx.emit("FULLY_CONNECTED", [source, filters, bias], [result], "FullyConnectedOptions", **fields)


def _batch_matmul(ctx: Lowering, left: int, right: int) -> None:
    """BATCH_MATMUL of two operands, each as it lies if that is a matrix or a transposed one."""
    depth = max(left, right) - 2 if max(left, right) > 2 else 0
    views = ctx.input(0), ctx.input(1)
    orders = [identity(depth)]
    if left == right:
        orders += [v.layout[:depth] for v in views if sorted(v.layout[:depth]) == list(range(depth))]
    choices = [(_effort(ctx, views, (left, right), order), n, order) for n, order in enumerate(orders)]
    order = min(choices)[2]
    a, across = _operand(ctx, views[0], *_layouts(left, order, row=True))
    b, down = _operand(ctx, views[1], *_layouts(right, order, row=False))
    row = depth if left > 1 else NEW
    column = NEW if right == 1 else depth + (left > 1)
    fields = {"adjX": across, "adjY": down, "asymmetricQuantizeInputs": False}

    def write(result: Tensor) -> None:
        if len(result.shape) <= _HIGHEST_RANK:
            ctx.emit("BATCH_MATMUL", [a, b], [result], "BatchMatMulOptions", **fields)
            return
        shape, moves = _merged_axes(result, len(result.shape) - _HIGHEST_RANK + 1)
        merged = ctx.program.temp(result, shape, moves, f"{ctx.result.name}/merged")
        x, z = (_merged(ctx, t, result) for t in (a, b))
        ctx.emit("BATCH_MATMUL", [x, z], [merged], "BatchMatMulOptions", **fields)
        ctx.program.reshape_into(merged, result)

    _activated(ctx, (*order, row, column), write)


def _layouts(rank: int, order: Layout, *, row: bool) -> tuple[Layout, Layout]:
    """Where an operand's axes lie when it is read as it is, and transposed."""
    if rank == 1:
        return ((NEW, 0), (0, NEW)) if row else ((0, NEW), (NEW, 0))
    batch = order if len(order) == rank - 2 else identity(rank - 2)
    return (*batch, rank - 2, rank - 1), (*batch, rank - 1, rank - 2)


def _effort(ctx: Lowering, views: tuple[View, View], ranks: tuple[int, int], order: Layout) -> int:
    """What it costs to have the batch axes in this order."""
    pairs = zip(views, (_layouts(r, order, row=i == 0) for i, r in enumerate(ranks)), strict=True)
    return sum(min(ctx.program.effort(view, layout) for layout in layouts) for view, layouts in pairs)


def _operand(ctx: Lowering, view: View, plain: Layout, turned: Layout) -> tuple[Tensor, bool]:
    """The tensor, and whether it holds the matrices transposed."""
    across = ctx.program.effort(view, turned) < ctx.program.effort(view, plain)
    return ctx.program.convert(view, turned if across else plain).tensor, across


def _merged(ctx: Lowering, tensor: Tensor, result: Tensor) -> Tensor:
    """The leading batch axes as one, so that no more than five are left."""
    extra = len(result.shape) - _HIGHEST_RANK + 1
    if len(tensor.shape) < _HIGHEST_RANK:
        return tensor
    if tensor.shape[:extra] != result.shape[:extra]:
        raise ctx.refuse("shape", f"{tensor.shape} spread over {result.shape}", "at most three batch dimensions differ")
    shape, moves = _merged_axes(tensor, extra)
    return ctx.program.reshape(tensor, shape, moves)


def _merged_axes(tensor: Tensor, count: int) -> tuple[tuple[int, ...], frozenset[int]]:
    """Shape and dynamic axes with the first ``count`` axes as one."""
    shape = (int(np.prod(tensor.shape[:count])), *tensor.shape[count:])
    return shape, frozenset(max(a - count + 1, 0) for a in tensor.dynamic)


def _activated(ctx: Lowering, layout: Layout, write: Callable[[Tensor], None]) -> None:
    """An operator that cannot clamp its output, and the clamp."""
    result = ctx.output(layout)
    if ctx.fused == "NONE":
        write(result)
        return
    product = ctx.program.temp(result, result.shape, result.dynamic, f"{ctx.result.name}/product")
    write(product)
    ctx.emit(ctx.fused, [product], [result])


def plain_gemm(node: ir.Node) -> bool:
    """A Gemm that is x @ w + b."""
    numbers = [node.attributes.get_float(n, 1.0) for n in ("alpha", "beta")]
    return numbers == [1.0, 1.0] and not node.attributes.get_int("transA", 0)


def _matmul_int8(node: ir.Node) -> bool:
    """Matrices; more than one scale only in a constant one."""
    ranks = [0 if v is None or v.shape is None else len(v.shape) for v in node.inputs]
    if min(ranks) < 2:
        return False
    maker = node.inputs[1].producer() if node.inputs[1] is not None else None
    scale = graph.constant(maker.inputs[1]) if maker is not None and maker.op_type == "DequantizeLinear" else None
    constant = graph.is_constant(node.inputs[1]) and ranks[1] == 2
    return constant or ((scale is None or scale.size == 1) and max(ranks) <= _HIGHEST_RANK)


ROWS = (
    Op(
        "Gemm",
        Free(),
        ("activation", "weight", "bias"),
        weight_axis=lambda node: 0 if node.attributes.get_int("transB", 0) else 1,
        lower=gemm,
        expand=gemm_by_parts,
        fuses=True,
        int8_when=plain_gemm,
        int16=Free(),
    ),
    Op(
        "MatMul",
        Free(),
        ("activation", "weight"),
        weight_axis=lambda node: -1,
        lower=matmul,
        fuses=True,
        int8_when=_matmul_int8,
        int16=Free(),
    ),
)
