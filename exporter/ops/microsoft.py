"""ONNX Runtime's own operators (domain com.microsoft) of files that it quantized, written with standard ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.expansion import Expansion, Operand
from exporter.ops.op import Float, Op
from exporter.ops.qoperators import centred, dequantized, flat_of, quantized, scale_of

__all__ = ["ROWS"]

Expand = Callable[[Expansion], None]


def _around(kind: str, *inputs: int, result: int, attributes: tuple[str, ...] = ()) -> Expand:
    """``kind`` between DequantizeLinear of ``inputs`` and QuantizeLinear by the scale at ``result``."""

    def expand(e: Expansion) -> None:
        given = {name: value for name in attributes if (value := e.attr(name)) is not None}
        real = e.op(kind, *(dequantized(e, index) for index in inputs), **given)
        e.finish(quantized(e, real, result))

    return expand


def pool(kind: str, attributes: tuple[str, ...]) -> Expand:
    """A pool, of NCHW unless channels_last."""

    def expand(e: Expansion) -> None:
        last = bool(e.attr("channels_last", 0))
        rank = len(e.shape(0)) if last else 0
        given = {name: value for name in attributes if (value := e.attr(name)) is not None}
        x: Operand = dequantized(e, 0)
        x = e.transpose(x, [0, rank - 1, *range(1, rank - 1)]) if last else x
        y: Operand = e.op(kind, x, **given)
        y = e.transpose(y, [0, *range(2, rank), 1]) if last else y
        assert isinstance(y, ir.Value)
        e.finish(quantized(e, y, 3))

    return expand


def reduce_mean(e: Expansion) -> None:
    """Axes are an attribute here."""
    axes = e.attr("axes")
    places = None if axes is None else np.asarray(axes, np.int64)
    real = e.op("ReduceMean", dequantized(e, 0), places, keepdims=e.attr("keepdims", 1))
    e.finish(quantized(e, real, 3))


def concat(e: Expansion) -> None:
    """Result's scale and zero point first, then three inputs for each part, which are requantized one by one."""
    scale, zero = scale_of(e, 0), flat_of(e, 1)
    parts = [quantized(e, dequantized(e, index), 0) for index in range(2, len(e.node.inputs), 3)]
    parts = [e.op("DequantizeLinear", part, scale, zero) for part in parts]
    e.finish(quantized(e, e.op("Concat", *parts, axis=e.attr("axis")), 0))


def where(e: Expansion) -> None:
    e.finish(quantized(e, e.op("Where", e.input(0), dequantized(e, 1), dequantized(e, 4)), 7))


def gemm(e: Expansion) -> None:
    """alpha A B + C, the bias int32 at the scale of the accumulator; float where no scale of the result is given."""
    alpha, fields = float(e.attr("alpha", 1.0)), {"transA": e.attr("transA", 0), "transB": e.attr("transB", 0)}
    inputs = [dequantized(e, 0), dequantized(e, 3, 0 if fields["transB"] else 1)]
    if e.has(6):
        first, second = scale_of(e, 1), scale_of(e, 4)
        known = isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
        scale = (first * second * np.float32(alpha)).astype(np.float32) if known else None
        if scale is None:
            raise e.refuse("a_scale", "computed at run time", "make it a constant")
        inputs.append(e.op("DequantizeLinear", e.input(6), scale, np.zeros(scale.shape, np.int32), axis=0))
    real = e.op("Gemm", *inputs, alpha=alpha, **fields)
    e.finish(quantized(e, real, 7) if e.has(7) else real)


def integer_matmul_to_float(e: Expansion) -> None:
    """(A - zero point) (B - zero point) * scales + bias."""
    if graph.shape_of(e.input(0)) is None or graph.shape_of(e.input(1)) is None:
        return
    product = e.op("MatMul", centred(e, 0, 4, -2), centred(e, 1, 5, -1))
    scaled = e.op("Mul", product, e.op("Mul", scale_of(e, 2), scale_of(e, 3)))
    e.finish(e.op("Add", scaled, e.input(6)) if e.has(6) else scaled)


def dynamic_matmul(e: Expansion) -> None:
    """A in uint8 of its own range, then integers, then scales and bias."""
    stored, scale, zero = e.ops("DynamicQuantizeLinear", 3, e.input(0))
    weights = [e.input(1), e.input(3)] if e.has(3) else [e.input(1)]
    product = e.op("Cast", e.op("MatMulInteger", stored, weights[0], zero, *weights[1:]), to=int(ir.DataType.FLOAT))
    scaled = e.op("Mul", product, e.op("Mul", scale, scale_of(e, 2)))
    e.finish(e.op("Add", scaled, e.input(4)) if e.has(4) else scaled)


_INTEGERS = Float("computes on integers by itself")
_POOLED = ("auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides")


def _row(op: str, expand: Expand, ignores: tuple[str, ...] = ()) -> Op:
    types = ("int8", "uint8", "float32", "bool", "int32")
    return Op(op, _INTEGERS, expand=expand, types=types, ignores=ignores, domain="com.microsoft")


ROWS = (
    _row("QLinearAdd", _around("Add", 0, 3, result=6)),
    _row("QLinearMul", _around("Mul", 0, 3, result=6)),
    _row("QLinearSigmoid", _around("Sigmoid", 0, result=3)),
    _row("QLinearLeakyRelu", _around("LeakyRelu", 0, result=3, attributes=("alpha",))),
    _row("QLinearSoftmax", _around("Softmax", 0, result=3, attributes=("axis",)), ignores=("opset",)),
    _row("QLinearReduceMean", reduce_mean),
    _row("QLinearGlobalAveragePool", pool("GlobalAveragePool", ())),
    _row("QLinearAveragePool", pool("AveragePool", _POOLED)),
    _row("QLinearConcat", concat),
    _row("QLinearWhere", where),
    _row("QGemm", gemm),
    _row("MatMulIntegerToFloat", integer_matmul_to_float),
    _row("DynamicQuantizeMatMul", dynamic_matmul),
)
