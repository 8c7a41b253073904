"""What the QuantizeLinear and DequantizeLinear around a node say, and the clamp behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.errors import UnsupportedError
from exporter.ops import Fixed, Float, Op, Same
from exporter.ops.lowering import Quant

__all__ = ["clamp_after", "quant_of", "runs_on_integers"]

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_KNOWN = frozenset({"int8", "uint8", "int16", "int32", "int4"})
_CLAMPS = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def runs_on_integers(node: ir.Node, row: Op, result: ir.Value) -> bool:
    """All activations come from tensors of one width, the result goes only to one such, and the row's rule holds."""
    if isinstance(row.int8, Float) or (row.int8_when is not None and not row.int8_when(node)):
        return False
    activations: list[Quant] = []
    constants: list[tuple[Quant, bool]] = []
    for index, value in enumerate(node.inputs):
        if value is None or row.role(index) == "static":
            continue
        maker = value.producer()
        if maker is None or maker.op_type != _DEQUANTIZE:
            return False
        stored = graph.constant(maker.inputs[0])
        if row.role(index) == "bias":
            continue
        if stored is None:
            activations.append(quant_of(maker)[0])
        else:  # the two operands of BATCH_MATMUL have one type
            stack = node.op_type == "MatMul" and stored.ndim > 2
            constants.append((quant_of(maker)[0], row.role(index) == "weight" and not stack))
    results = [_result_quant(v) for v in [result, *node.outputs[1:]]]
    if not activations or len({None if q is None else q.bits for q in [*activations, *results]}) > 1:
        return False
    first = activations[0]
    if first.bits == 16 and row.int16_when is not None and not row.int16_when(node):
        return False
    if results[0] is None or any(q.bits != (8 if weight else first.bits) for q, weight in constants):
        return False
    match row.rule(first.bits):
        case Float():
            return False
        case Same():
            return all(q is not None and q.same(first) for q in [*activations, *results])
        case Fixed(scale, zero_point):
            wanted = replace(first, scale=np.asarray(scale, np.float32), zero_point=np.asarray(zero_point, np.int64))
            return wanted.same(results[0])
    return True


def quant_of(node: ir.Node) -> tuple[Quant, int]:
    """Quantization of a Q or DQ node, and 128 where its integers are uint8 and have to be shifted to int8."""
    scale, zero = graph.constant(node.inputs[1]), None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        zero = graph.constant(node.inputs[2])
        if zero is None:
            scale = None
    if scale is None:
        raise UnsupportedError(node.name or "", node.op_type, "scale", "computed at run time", "make it a constant")
    stored = node.outputs[0] if node.op_type == _QUANTIZE else node.inputs[0]
    kind = stored.dtype.numpy().name if stored is not None and stored.dtype is not None else "int8"
    block = node.attributes.get_int("block_size", 0)
    if kind not in _KNOWN or (scale.ndim > 1) != bool(block) or scale.dtype != np.float32:
        found = f"{kind} with scale of shape {scale.shape} and type {scale.dtype}"
        raise UnsupportedError(node.name or "", node.op_type, "type", found, "int8 per tensor or channel works")
    shift = 128 if kind == "uint8" else 0
    zeros = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64) - shift
    if zero is None and shift:
        zeros = np.full(scale.shape, -shift, np.int64)
    scales: npt.NDArray[np.float32] = scale.astype(np.float32)
    if scales.size == 1 and not block:
        return Quant(scales.reshape(()), zeros.reshape(()), bits=16 if kind == "int16" else 8), shift
    rank = len(stored.shape) if stored is not None and stored.shape is not None else 1
    return Quant(scales, zeros, node.attributes.get_int("axis", 1) % rank, block), shift


def _result_quant(value: ir.Value) -> Quant | None:
    """The one quantization of all readers, or None when someone reads the value in float."""
    readers = graph.consumers(value)
    if not readers or value.is_graph_output() or any(r.op_type != _QUANTIZE for r in readers):
        return None
    quants = [quant_of(r)[0] for r in readers]
    return quants[0] if quants[0].axis is None and all(q.same(quants[0]) for q in quants) else None


def clamp_after(node: ir.Node) -> tuple[ir.Node, str] | None:
    """The Relu or Clip that alone reads the node's output, and its name as a fused activation."""
    reader = graph.only_consumer(node.outputs[0])
    if reader is None or reader.op_type not in {"Relu", "Clip"} or reader.inputs[0] is not node.outputs[0]:
        return None
    if node.outputs[0].dtype != ir.DataType.FLOAT:
        return None  # integers wrap around before they are clamped
    bounds = (0.0, np.inf) if reader.op_type == "Relu" else _clip_bounds(reader)
    name = _CLAMPS.get(bounds) if bounds is not None else None
    return None if name is None else (reader, name)


def _clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    """Constant bounds of a Clip, None when computed."""
    found = []
    for index, default in ((1, -np.inf), (2, np.inf)):
        if index >= len(node.inputs) or node.inputs[index] is None:
            found.append(default)
            continue
        array = graph.constant(node.inputs[index])
        if array is None or array.size != 1:
            return None
        found.append(float(array.item()))
    return found[0], found[1]
