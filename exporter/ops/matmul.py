"""Matrix products."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from exporter.ops.conv import bias_tensor
from exporter.ops.lowering import Array, Lowering, Quant, Tensor, identity
from exporter.ops.op import Free, Op

__all__ = ["ROWS", "plain_gemm"]


def _gemm_axis(node: ir.Node) -> int:
    return 0 if node.attributes.get_int("transB", 0) else 1


def plain_gemm(node: ir.Node) -> bool:
    """A Gemm that is x @ w + b."""
    numbers = [node.attributes.get_float(n, 1.0) for n in ("alpha", "beta")]
    return numbers == [1.0, 1.0] and not node.attributes.get_int("transA", 0)


def gemm(ctx: Lowering) -> None:
    """FULLY_CONNECTED; alpha and beta go into the constants."""
    found = ctx.weights(1)
    if found is None:
        raise ctx.refuse("B", "computed at run time", "use MatMul and Add")
    weight, quant = found
    if not ctx.attr("transB", 0):
        weight, quant = weight.T, _other_axis(quant)
    alpha, beta = ctx.attr("alpha", 1.0), ctx.attr("beta", 1.0)
    if alpha != 1.0:
        weight = (weight * np.float32(alpha)).astype(np.float32)
    source = ctx.input(0, (1, 0)).tensor if ctx.attr("transA", 0) else ctx.plain(0)
    columns = weight.shape[0]
    bias = ctx.const(2) if ctx.has(2) else None
    direct = not ctx.has(2) or (bias is not None and bias.shape == (columns,) and beta == 1.0)
    if direct:
        extra = bias_tensor(ctx, 2, columns, source, quant)
        _fully_connected(ctx, source, weight, quant, extra)
        return
    product = ctx.program.temp(source, (source.shape[0], columns), source.dynamic, f"{ctx.result.name}/product")
    filters = ctx.program.constant(weight, quant, _weight_name(ctx))
    fields = {"fusedActivationFunction": "NONE", "keepNumDims": False}
    ctx.emit("FULLY_CONNECTED", [source, filters, None], [product], "FullyConnectedOptions", **fields)
    added = ctx.number(bias * np.float32(beta)) if bias is not None else ctx.plain(2)
    if bias is None and beta != 1.0:
        scaled = ctx.temp(added, tag="beta")
        ctx.emit("MUL", [added, ctx.number(beta)], [scaled], "MulOptions", fusedActivationFunction="NONE")
        added = scaled
    ctx.emit("ADD", [product, added], [ctx.output()], "AddOptions", fusedActivationFunction=ctx.fused)


def _other_axis(quant: Quant | None) -> Quant | None:
    return quant if quant is None or quant.axis is None else Quant(quant.scale, quant.zero_point, 1 - quant.axis)


def _weight_name(ctx: Lowering) -> str:
    value = ctx.node.inputs[1]
    return (value.name if value is not None else None) or "weight"


def _fully_connected(ctx: Lowering, source: Tensor, weight: Array, quant: Quant | None, bias: Tensor | None) -> None:
    filters = ctx.program.constant(_in_source_order(ctx, weight), quant, _weight_name(ctx))
    result = ctx.output()
    keep = len(result.shape) > 2
    fields = {"fusedActivationFunction": ctx.fused, "keepNumDims": keep}
    ctx.emit("FULLY_CONNECTED", [source, filters, bias], [result], "FullyConnectedOptions", **fields)


def _in_source_order(ctx: Lowering, weight: Array) -> Array:
    """Columns in the order in which a channels-last feature map was flattened."""
    order = ctx.values.flat_order(ctx.node.inputs[0])
    return weight if order is None else weight[:, order]


def matmul(ctx: Lowering) -> None:
    """FULLY_CONNECTED with a constant matrix, else BATCH_MATMUL."""
    left, right = len(ctx.shape(0)), len(ctx.shape(1))
    if left < 2 or right < 2:
        raise ctx.refuse("", f"operands of rank {left} and {right}", "give both two dimensions or more")
    found = ctx.weights(1)
    if found is not None and right == 2:
        weight, quant = found
        _fully_connected(ctx, ctx.plain(0), weight.T, _other_axis(quant), None)
        return
    a, b, turned = ctx.plain(0), ctx.input(1), False
    swapped = (*range(right - 2), right - 1, right - 2)
    if b.layout == swapped:
        b_tensor, turned = b.tensor, True
    else:
        b_tensor = ctx.program.convert(b, identity(right)).tensor
    fields = {"adjX": False, "adjY": turned, "asymmetricQuantizeInputs": False}
    ctx.emit("BATCH_MATMUL", [a, b_tensor], [ctx.output()], "BatchMatMulOptions", **fields)


def _matmul_int8(node: ir.Node) -> bool:
    return all(v is not None and v.shape is not None and len(v.shape) >= 2 for v in node.inputs)


ROWS = (
    Op(
        "Gemm",
        Free(),
        ("activation", "weight", "bias"),
        weight_axis=_gemm_axis,
        lower=gemm,
        fuses=True,
        int8_when=plain_gemm,
    ),
    Op(
        "MatMul",
        Free(),
        ("activation", "weight"),
        weight_axis=lambda node: -1,
        lower=matmul,
        int8_when=_matmul_int8,
    ),
)
