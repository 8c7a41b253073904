"""Inspect an ONNX file as it lies, without the canonical form that load brings it into."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.emit.unpack import read_packed
from exporter.errors import LoadError
from exporter.graph import constant
from exporter.inspection.kernels import onnxruntime_kernels
from exporter.inspection.types import Inspection, Port, TensorScheme

__all__ = ["inspect_onnx"]


def inspect_onnx(path: Path) -> Inspection:
    """Raises LoadError when the file is no ONNX model."""
    try:
        model = ir.load(path)
        ops = Counter(_op_name(node) for node in model.graph.all_nodes())
    except Exception as error:  # protobuf's own error types, and whatever a damaged file provokes
        raise LoadError(f"{path}: not an ONNX model: {error}", "is the file complete?") from error
    constants = list(model.graph.initializers.values())
    sizes: Counter[str] = Counter()
    for value in constants:
        if value.const_value is not None:
            sizes[_dtype(value.const_value.dtype)] += value.const_value.nbytes
    return Inspection(
        path=str(path),
        kind="onnx",
        size=path.stat().st_size,
        inputs=tuple(_port(value) for value in model.graph.inputs if value not in constants),
        outputs=tuple(_port(value) for value in model.graph.outputs),
        ops=dict(sorted(ops.items())),
        bytes_by_dtype=dict(sorted(sizes.items())),
        schemes=_schemes(model.graph),
        kernels=onnxruntime_kernels(path),
        facts={"opset": str(model.opset_imports.get("", "?")), "producer": model.producer_name or "?"},
    )


def _op_name(node: ir.Node) -> str:
    return f"{node.domain}:{node.op_type}" if node.domain else node.op_type


def _dtype(dtype: ir.DataType | None) -> str:
    """numpy's name of an element type."""
    names = {"FLOAT": "float32", "DOUBLE": "float64"}
    return "?" if dtype is None else names.get(dtype.name, dtype.name.lower())


def _port(value: ir.Value) -> Port:
    dims = () if value.shape is None else tuple(d if isinstance(d, int) else d.value for d in value.shape)
    return Port(value.name or "", _dtype(value.dtype), dims)


def _schemes(graph: ir.Graph) -> tuple[TensorScheme, ...]:
    """One row for each tensor that a QuantizeLinear or DequantizeLinear of constant scale describes."""
    rows: dict[str, TensorScheme] = {}
    for node in graph.all_nodes():
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        integers = node.outputs[0] if node.op_type == "QuantizeLinear" else _stored(node.inputs[0])
        scale = constant(node.inputs[1])
        if integers is None or integers.name in rows or scale is None:
            continue
        zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        zero = np.zeros(1, np.uint8) if zero is None else zero
        dtype = integers.dtype or ir.DataType.from_numpy(zero.dtype)
        maker = None if node.inputs[0] is None else node.inputs[0].producer()
        packed = None if maker is None else read_packed(maker)
        rows[integers.name or ""] = TensorScheme(
            name=integers.name or "",
            role=_role(integers, dtype),
            bits=packed or int(dtype.itemsize * 8),
            per=_per(node, scale),
            scale=(float(scale.min()), float(scale.max())),
            zero_point=(int(zero.min()), int(zero.max())),
        )
    return tuple(rows.values())


def _stored(value: ir.Value | None) -> ir.Value | None:
    """What lies in the file: narrow weights go through nodes that the runtime folds."""
    producer = None if value is None else value.producer()
    if producer is None or (producer.op_type != "Cast" and read_packed(producer) is None):
        return value
    return producer.inputs[0]


def _role(integers: ir.Value, dtype: ir.DataType) -> str:
    if not integers.is_initializer():
        return "activation"
    return "bias" if dtype == ir.DataType.INT32 else "weight"


def _per(node: ir.Node, scale: npt.NDArray[np.generic]) -> str:
    if scale.size == 1:
        return "tensor"
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    block = node.attributes["block_size"].as_int() if "block_size" in node.attributes else 0
    return f"group {axis} of {block}" if block else f"channel {axis}"
