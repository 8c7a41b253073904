"""The grids of constants: weights, biases and constant operands of integer nodes, and weights of float nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph, grid
from exporter.errors import PlanError
from exporter.ops import OPS, Op
from exporter.ops.matmul import plain_gemm
from exporter.ops.recurrent_weights import RECURRENT
from exporter.quantize.regions import activation_inputs
from exporter.quantize.schemes import initial_qparams, weight_scheme
from exporter.quantize.widths import Widths
from exporter.quantize.wishes import FLOAT_WEIGHTS, Wish
from exporter.recipe import SEEING_SAMPLES
from exporter.types import Grain, PerChannel, PerGroup, PerTensor, QParams, Scheme, TensorPlan

__all__ = ["bias_of", "plan_constants", "plan_stored", "stored_inputs"]

Floats = npt.NDArray[np.float32]
_OPERANDS = {8: Scheme(8, symmetric=False), 16: Scheme(16, symmetric=True)}
_BIAS_LIMIT = float(2**30)  # keeps bias / (input scale x weight scale) well inside int32
_LINEAR = frozenset({"Gemm", "MatMul"})
_NEAREST_FROM = 7  # bits
_FEWEST = 1024  # values of a table that is worth a scale


def plan_constants(node: ir.Node, widths: Widths, tensors: dict[str, TensorPlan], wish: Wish, *, samples: bool) -> None:
    """Of one integer node, into ``tensors``, which holds its activations."""
    row, bits = OPS[node.op_type], widths.bits(node)
    read = tensors.get(widths.name(activation_inputs(node, row)[0], node))  # none before a fused clamp
    source = 1.0 if read is None or read.qparams is None else float(read.qparams.scale)
    for index, value in enumerate(node.inputs):
        array = graph.constant(value)
        if value is None or array is None or array.dtype != np.float32 or row.role(index) in {"static", "bias"}:
            continue
        name = _named(value)
        stack = node.op_type == "MatMul" and array.ndim > 2  # both operands of BATCH_MATMUL have one type
        if row.role(index) == "weight" and not (bits == 16 and stack):
            tensors[name] = _weight(node, name, array.astype(np.float32), source, wish, samples)
        else:
            qparams = grid.qparams_from_range(array.min(), array.max(), _OPERANDS[bits])
            if name in tensors and tensors[name].qparams != qparams:
                found = f"constant {name!r} is read by nodes with int8 and with int16 activations"
                raise PlanError(found, "give all that read it the same activations")
            tensors[name] = TensorPlan(name, "weight", qparams, "constant operand: its own range")
    bias = bias_of(node)
    if bias is not None:
        weight_plan = tensors[_named(node.inputs[1])].qparams
        assert weight_plan is not None
        qparams = grid.bias_qparams(source, _per_channel(weight_plan.scale, graph.constant(bias)))
        tensors[_named(bias)] = TensorPlan(_named(bias), "bias", qparams, "input scale x weight scale")


def stored_inputs(node: ir.Node) -> tuple[int, ...]:
    """Inputs of a node in float that may be weights of the plan; its other constants stay in float."""
    if node.op_type in RECURRENT:
        return 1, 2
    return (0,) if node.op_type == "Gather" else (1,) if node.op_type in {"Conv", *_LINEAR} else ()


def plan_stored(node: ir.Node, wish: Wish, *, samples: bool) -> tuple[list[TensorPlan], bool]:
    """Weights of a node that does not run on planned integers; and whether what they meet becomes integers."""
    indices = stored_inputs(node)
    if not indices or wish.weights == "float":
        return [], False
    values = [node.inputs[index] if len(node.inputs) > index else None for index in indices]
    arrays = [graph.constant(value) for value in values]
    if any(array is None or array.dtype != np.float32 or array.ndim < 2 or not _fits(node, array) for array in arrays):
        return [], False
    tensors = [
        _stored(node, _named(value), np.asarray(array, np.float32), wish, samples)
        for value, array in zip(values, arrays, strict=True)
    ]
    if node.op_type in RECURRENT:
        return tensors, wish.activations in {"int8", "dynamic"} and wish.weights != "float16"
    linear = node.op_type in _LINEAR and wish.weights != "float16"
    return tensors, linear and wish.activations == "dynamic"


def _stored(node: ir.Node, name: str, array: Floats, wish: Wish, samples: bool) -> TensorPlan:
    if wish.weights == "float16":
        return TensorPlan(name, "weight", None, "stored as float16", kept="float16")
    qparams, how = initial_qparams(
        array, weight_scheme(wish.weights, array, _stored_grain(node, array, wish), wish.symmetric)
    )
    why = _why(qparams, how)
    if node.op_type in RECURRENT:
        why = why.replace("each channel", "each gate row")
    return TensorPlan(name, "weight", qparams, why, _rounder(node, wish, qparams, samples))


def _fits(node: ir.Node, array: npt.NDArray[np.generic]) -> bool:
    if node.op_type == "Gather":
        return array.size >= _FEWEST and array.ndim == 2 and graph.attribute(node, "axis", 0) == 0
    if node.op_type in RECURRENT:
        return array.ndim == 3
    if node.op_type == "MatMul":
        return array.ndim == 2
    return node.op_type != "Gemm" or plain_gemm(node)


def _stored_grain(node: ir.Node, array: Floats, wish: Wish) -> Grain:
    if node.op_type == "Gather":  # a row of a table is what a token reads
        size = 32 if wish.weights != "int8" and wish.granularity == "channel" else wish.granularity
        return PerGroup(1, size) if isinstance(size, int) else PerTensor() if size == "tensor" else PerChannel(0)
    if node.op_type in RECURRENT:  # the kernels know no groups; both directions share the scale of a gate's row
        return PerTensor() if wish.granularity == "tensor" else PerChannel(1)
    axis = _channel_axis(node, array)
    if isinstance(wish.granularity, int) and node.op_type in _LINEAR:
        return PerGroup(1 - axis, wish.granularity)
    return PerTensor() if wish.granularity == "tensor" else PerChannel(axis)


def _channel_axis(node: ir.Node, array: npt.NDArray[np.generic]) -> int:
    row = OPS[node.op_type]
    assert row.weight_axis is not None
    return row.weight_axis(node) % array.ndim


def _weight(node: ir.Node, name: str, array: Floats, source: float, wish: Wish, samples: bool) -> TensorPlan:
    row = OPS[node.op_type]
    if isinstance(wish.granularity, int):
        found = f"node {graph.node_name(node)!r}: groups of {wish.granularity} with {wish.activations} activations"
        raise PlanError(found, 'no integer kernel has them: activations = "dynamic" or "float", or no group')
    per_channel = row.weight_axis is not None and array.ndim >= 2 and not (node.op_type == "MatMul" and array.ndim > 2)
    grain: Grain = PerTensor()
    if per_channel and wish.granularity == "channel":
        grain = PerChannel(_channel_axis(node, array))
    assert wish.weights not in FLOAT_WEIGHTS
    qparams, how = initial_qparams(array, weight_scheme(wish.weights, array, grain, wish.symmetric))
    why = _why(qparams, how)
    bias = bias_of(node)
    if bias is not None:
        top = np.abs(np.asarray(graph.constant(bias), np.float64))
        floor = (top if qparams.scale.ndim else top.max()) / (_BIAS_LIMIT * source)
        if (floor > qparams.scale).any():
            qparams = replace(qparams, scale=np.maximum(qparams.scale, floor).astype(np.float32))
            why += "; widened where the bias would not fit in int32"
    return TensorPlan(name, "weight", qparams, why, _rounder(node, wish, qparams, samples))


def _rounder(node: ir.Node, wish: Wish, qparams: QParams, samples: bool) -> str:
    """auto: from 7 bits on nearest does no harm; below, what the layer reads decides, where there is any to see."""
    if node.op_type in RECURRENT and wish.rounder in SEEING_SAMPLES:  # they do not see what the steps read
        return "mse"
    if wish.rounder != "auto":
        return wish.rounder
    if qparams.scheme.bits >= _NEAREST_FROM:
        return "nearest"
    weight = node.inputs[0 if node.op_type == "Gather" else 1]
    assert weight is not None
    readers = {node.op_type, *(other.op_type for other in graph.consumers(weight))}  # a table may be the head too
    return "gptq" if samples and readers & {"Conv", *_LINEAR} else "mse"


def _why(qparams: QParams, how: str) -> str:
    scheme = qparams.scheme
    kind = "symmetric" if scheme.symmetric else "asymmetric"
    if not isinstance(scheme, Scheme):
        kind = f"{scheme.name} with {len(scheme.levels)} levels"
    match scheme.grain:
        case PerTensor():
            return f"{kind}, {how} of the tensor"
        case PerChannel():
            return f"{kind}, {how} of each channel"
        case PerGroup(_, size):
            return f"{kind}, {how} of each group of {size}"


def bias_of(node: ir.Node) -> ir.Value | None:
    """Its bias input."""
    row: Op = OPS[node.op_type]
    for index, value in enumerate(node.inputs):
        if value is not None and row.role(index) == "bias":
            return value
    return None


def _per_channel(scale: Floats, bias: npt.NDArray[np.generic] | None) -> Floats:
    assert bias is not None
    return np.broadcast_to(scale, bias.shape).astype(np.float32) if scale.ndim else scale


def _named(value: ir.Value | None) -> str:
    assert value is not None
    assert value.name is not None  # the verifier holds this
    return value.name
