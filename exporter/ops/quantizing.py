"""QuantizeLinear and DequantizeLinear where no int8 kernel is in play: constants are computed, the rest is arithmetic.

Pairs around integer kernels stay as they are: the emitter gives their scales to TFLite's tensors (``is_bridge``).
TFLite's own QUANTIZE multiplies by 1 / scale, so that on its own it may round a tie to the other side; a division that
rounds half to even, as ONNX defines it, is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.ops.expansion import Expansion, Operand
from exporter.ops.op import STORED, Float, InputRole, Op

__all__ = ["ROWS", "limits", "plain_scale", "quantize_by_arithmetic"]

Array = npt.NDArray[Any]

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_RUNNING = ("int8", "uint8", "int16", "uint16")  # of what is quantized at run time
_WEIGHTS = ("int8", "uint8", "int32", "int4", "int16")  # of constants that the emitter understands as they are


def limits(kind: np.dtype[Any]) -> tuple[int, int]:
    """Smallest and largest integer of a type."""
    info = ir.DataType.from_numpy(kind)
    bits = info.bitwidth
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if info.is_signed() else (0, (1 << bits) - 1)


def quantize(e: Expansion) -> None:
    """saturate(round(x / scale) + zero_point), unless the node is the way into an integer kernel."""
    if _enters(e.node) or _not_yet(e):
        return
    kind = _element(e.node.outputs[0], e, "output_dtype")
    if e.attr("precision", 0) not in {0, int(ir.DataType.FLOAT)}:
        raise e.refuse("precision", str(e.attr("precision")), "float32 works")
    if kind.kind not in "iu" and not kind.name.startswith(("int", "uint")):
        raise e.refuse("output_dtype", kind.name, f"can be {', '.join(_RUNNING)}")
    x, scale = e.const(0), e.const(1)
    zero = e.const(2) if e.has(2) else np.zeros((), kind)
    if x is not None and scale is not None and zero is not None:
        scale, zero = (_spread(e, numbers, x.shape) for numbers in (scale, zero))
        low, high = limits(kind)
        integers = np.rint(x.astype(np.float32) / scale.astype(np.float32)) + zero.astype(np.float32)
        e.finish(np.clip(integers, low, high).astype(np.int32).astype(kind))
        return
    if kind.name not in _RUNNING:
        raise e.refuse("output_dtype", f"{kind.name} at run time", f"can be {', '.join(_RUNNING)}")
    e.finish(quantize_by_arithmetic(e, _real(e, e.input(0)), *_operands(e), kind))


def quantize_by_arithmetic(e: Expansion, x: Operand, scale: Operand, zero: Operand, kind: np.dtype[Any]) -> ir.Value:
    """The same with plain operators; x, scale and the zero point (or None) are float32 and broadcast."""
    low, high = limits(kind)
    rounded = e.op("Round", e.op("Div", x, scale))
    moved = rounded if zero is None else e.op("Add", rounded, zero)
    bounds = [np.asarray(bound, np.float32) for bound in (low, high)]
    return e.op("Cast", e.op("Clip", moved, *bounds), to=int(ir.DataType.from_numpy(kind)))


def dequantize(e: Expansion) -> None:
    """(x - zero_point) * scale, unless the node is the way out of an integer kernel, or a weight."""
    if _leaves(e.node) or _not_yet(e):
        return
    kind, wanted = _element(e.input(0), e, "x"), _element(e.node.outputs[0], e, "output_dtype")
    x, scale = e.const(0), e.const(1)
    zero = e.const(2) if e.has(2) else np.zeros((), np.int8)
    if x is not None and scale is not None and zero is not None:
        scale, zero = (_spread(e, numbers, x.shape) for numbers in (scale, zero))
        e.finish(((x.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32)).astype(wanted))
        return
    if kind.name not in {*_RUNNING, "int32"}:
        raise e.refuse("x", f"{kind.name} at run time", f"can be {', '.join(_RUNNING)}, int32")
    factor, offset = _operands(e)
    if kind.name == "int32" and offset is not None:  # float32 does not hold every int32: subtract before
        integers = e.op("Sub", e.input(0), e.op("Cast", offset, to=int(ir.DataType.INT32)))
        real, offset = e.op("Cast", integers, to=int(ir.DataType.FLOAT)), None
    else:
        real = e.op("Cast", e.input(0), to=int(ir.DataType.FLOAT))
    moved = real if offset is None else e.op("Sub", real, offset)
    result = e.op("Mul", moved, factor)
    e.finish(result if wanted.name == "float32" else e.op("Cast", result, to=int(ir.DataType.from_numpy(wanted))))


# -- pairs around integer kernels


def _enters(node: ir.Node) -> bool:
    """Does the emitter write integers here: one scale, read by nobody but the DequantizeLinear that undoes it?"""
    stored, source = node.outputs[0], node.inputs[0]
    if not _has_kernels(node, stored):
        return False
    if source is None or source.dtype != ir.DataType.FLOAT or graph.constant(source) is not None:
        return False
    readers = graph.consumers(stored)
    if any(_awaited(reader) for reader in readers):
        return True
    if stored.is_graph_output() and not _computed_on_integers(source):
        return False
    return bool(readers or stored.is_graph_output()) and all(_undoes(reader, node) for reader in readers)


def _computed_on_integers(value: ir.Value) -> bool:
    """May the operator before write the integers itself?"""
    maker = value.producer()
    return maker is not None and any(v is not None and _from_integers(v) for v in maker.inputs)


def _from_integers(value: ir.Value) -> bool:
    maker = value.producer()
    return maker is not None and maker.op_type == _DEQUANTIZE and graph.constant(maker.inputs[0]) is None


def _leaves(node: ir.Node) -> bool:
    """Is this the way out of an integer tensor that the emitter knows, or a weight that it stores as it is?"""
    stored = node.inputs[0]
    if stored is None:
        return False
    if graph.constant(stored) is not None:
        scale = graph.constant(node.inputs[1])
        known = stored.dtype is not None and stored.dtype.numpy().name in _WEIGHTS
        by_block = node.attributes.get_int("block_size", 0) > 0
        return known and scale is not None and (scale.ndim <= 1 or by_block) and scale.dtype == np.float32
    maker = stored.producer()
    if maker is not None and maker.op_type == "Identity" and graph.constant(maker.inputs[0]) is not None:
        return True  # a constant from the next round on
    if maker is not None and _awaited(maker):
        return True
    if maker is not None:
        return maker.op_type == _QUANTIZE and _undoes(node, maker) and _enters(maker)
    return _has_kernels(node, stored) and all(_undoes(reader, node) for reader in graph.consumers(stored))


def _has_kernels(node: ir.Node, stored: ir.Value) -> bool:
    """int8 and uint8, and int16 about 0, with one scale."""
    if stored.dtype == ir.DataType.INT16:
        zero = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(())
        return plain_scale(node) and zero is not None and not zero.any()
    return stored.dtype in {ir.DataType.INT8, ir.DataType.UINT8} and plain_scale(node)


def _awaited(node: ir.Node) -> bool:
    """Will this operator be written with pairs in this round, so that what is around it is decided in the next?"""
    return node.op_type.startswith("QLinear") or node.op_type == "QGemm"


def _undoes(reader: ir.Node, node: ir.Node) -> bool:
    """Is ``reader`` a DequantizeLinear with the scale and zero point of ``node``?"""
    if reader.op_type != _DEQUANTIZE:
        return False
    for index in (1, 2):
        first, second = (graph.constant(n.inputs[index]) if index < len(n.inputs) else None for n in (reader, node))
        if index == 2:
            first, second = (np.zeros((), np.int8) if a is None else a for a in (first, second))
        if first is None or second is None or not np.array_equal(first.ravel(), second.ravel()):
            return False
    return True


def plain_scale(node: ir.Node) -> bool:
    """One constant float32 scale and, if any, one constant zero point?"""
    scale = graph.constant(node.inputs[1])
    zero_given = len(node.inputs) > 2 and node.inputs[2] is not None
    zero = graph.constant(node.inputs[2]) if zero_given else np.zeros(())
    return scale is not None and scale.size == 1 and scale.dtype == np.float32 and zero is not None


# -- scales along an axis


def _operands(e: Expansion) -> tuple[Operand, Operand]:
    """Scale and zero point in float32 so that they broadcast against input 0; None for no zero point, or zero."""
    return _aligned(e, 1), None if _no_zero(e) else _aligned(e, 2)


def _no_zero(e: Expansion) -> bool:
    zero = e.const(2)
    return not e.has(2) or (zero is not None and not np.any(zero.astype(np.float32)))


def _aligned(e: Expansion, index: int) -> Operand:
    array = e.const(index)
    if array is not None:
        if array.size == 1:
            return array.reshape(()).astype(np.float32)
        return _spread(e, array, e.sizes(0) if e.attr("block_size", 0) else (), len(e.shape(0))).astype(np.float32)
    value, sizes = e.input(index), e.sizes(index)
    real = value if value.dtype == ir.DataType.FLOAT else e.op("Cast", value, to=int(ir.DataType.FLOAT))
    rank, axis = len(e.shape(0)), _axis(e)
    match sizes:
        case () | (1,):
            return e.reshape(real, [])
        case (count,):
            return e.reshape(real, [count if i == axis else 1 for i in range(rank)])
    whole = e.sizes(0)
    size = e.attr("block_size", 0)
    if whole[axis] != sizes[axis] * size:
        raise e.refuse("block_size", f"{size}, which does not divide {whole[axis]}", "make the scale a constant")
    apart = [*sizes[: axis + 1], 1, *sizes[axis + 1 :]]
    spread = [*sizes[: axis + 1], size, *sizes[axis + 1 :]]
    return e.reshape(e.op("Expand", e.reshape(real, apart), np.asarray(spread, np.int64)), whole)


def _spread(e: Expansion, numbers: Array, shape: tuple[int, ...], rank: int | None = None) -> Array:
    """Numbers of a tensor, of places along an axis, or of blocks along it, so that they broadcast against ``shape``."""
    size, axis = e.attr("block_size", 0), _axis(e)
    if numbers.size == 1:
        return numbers.reshape(())
    if numbers.ndim == 1:
        rank = len(shape) if rank is None else rank
        return numbers.reshape([-1 if i == axis else 1 for i in range(rank)])
    return np.repeat(numbers, size, axis)[(slice(None),) * axis + (slice(0, shape[axis]),)]


def _axis(e: Expansion) -> int:
    shape = graph.shape_of(e.input(0))
    return int(e.attr("axis", 1)) % len(shape) if shape else 0


def _not_yet(e: Expansion) -> bool:
    """Is a type still unknown, or a shape along which there are several scales? The next round may know."""
    scale = e.const(1)
    if e.input(0).dtype is None or e.node.outputs[0].dtype is None:
        return True
    return graph.shape_of(e.input(0)) is None and (scale is None or scale.size > 1)


# -- types


def _real(e: Expansion, x: ir.Value) -> ir.Value:
    return x if x.dtype == ir.DataType.FLOAT else e.op("Cast", x, to=int(ir.DataType.FLOAT))


def _element(value: ir.Value, e: Expansion, attribute: str) -> np.dtype[Any]:
    if value.dtype is None:
        raise e.refuse(attribute, f"the element type of {value.name!r} is not known")
    return np.dtype(value.dtype.numpy())


def dynamic_quantize(e: Expansion) -> None:
    """uint8 over the range that the numbers and 0 span; a range of nothing has scale 1, as in ONNX Runtime."""
    x, zero = e.input(0), np.zeros((), np.float32)
    high = e.op("Max", e.op("ReduceMax", x, keepdims=0), zero)
    low = e.op("Min", e.op("ReduceMin", x, keepdims=0), zero)
    span = e.op("Sub", high, low)
    one, most = np.ones((), np.float32), np.full((), 255, np.float32)
    scale = e.op("Where", e.op("Equal", span, zero), one, e.op("Div", span, most))
    place = e.op("Round", e.op("Clip", e.op("Div", e.op("Sub", zero, low), scale), zero, most))
    kind = np.dtype(np.uint8)
    integers = quantize_by_arithmetic(e, x, scale, place, kind)
    e.finish(integers, scale, e.op("Cast", place, to=int(ir.DataType.UINT8)))


_EDGE = Float("changes between float and integers")
_INPUTS: tuple[InputRole, ...] = ("activation", "static", "static")
_SEEN = ("axis", "block_size", "output_dtype", "saturate")  # where they matter
_STORED = (*STORED, "int4", "uint4", "int2", "uint2")

ROWS = (
    Op(_QUANTIZE, _EDGE, _INPUTS, expand=quantize, types=("float32", "float16", "bfloat16", "int32"), ignores=_SEEN),
    Op(_DEQUANTIZE, _EDGE, _INPUTS, expand=dequantize, types=_STORED, ignores=_SEEN),
    Op("DynamicQuantizeLinear", _EDGE, expand=dynamic_quantize, types=("float32",)),
)
