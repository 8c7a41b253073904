"""Which kernels onnxruntime really runs, read from the graph that it saves after its own optimisation."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import onnxruntime

from exporter.inspection.types import FloatNode, Kernels
from exporter.inspection.weights import onnx_weights

__all__ = ["onnxruntime_kernels"]

_INTS = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16)
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)
_BOUNDARY = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_REORDER = ("ReorderInput", "ReorderOutput")
# integer kernels that read or give float (onnxruntime: contrib_ops/cpu/quantization); QLinear* and *Integer go by name
_INTEGER = ("QGemm", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat", "QAttention")


def onnxruntime_kernels(path: Path) -> Kernels:
    """Load the file as an application would (CPU, all optimisations) and count what runs. Runs no data."""
    runtime = f"onnxruntime {onnxruntime.__version__}"
    onnxruntime.disable_telemetry_events()
    with tempfile.TemporaryDirectory(prefix="kbit-") as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns that a saved graph fits this machine only, which is what we want
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "optimized.data")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        try:
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own error types live in C++
            return Kernels(runtime, problem=" ".join(str(error).split()))
        loaded = ir.load(options.optimized_model_filepath)
        return replace(_count(loaded, runtime), weights=onnx_weights(ir.load(path), loaded))


def _count(model: ir.Model, runtime: str) -> Kernels:
    types: dict[str | None, ir.DataType | None] = {}
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        types[value.name] = value.dtype
    kinds: Counter[str] = Counter()
    ops: Counter[str] = Counter()
    islands = []
    for node in model.graph.all_nodes():
        ops[f"{node.domain}:{node.op_type}" if node.domain else node.op_type] += 1
        kind = _kind(node, types)
        kinds[kind] += 1
        if kind == "float":
            islands += _island(node)
        for output in node.outputs:
            types[output.name] = _output_type(node, types)
    counts = (kinds["integer"], kinds["float"], kinds["boundary"], kinds["reorder"])
    return Kernels(runtime, dict(sorted(ops.items())), *counts, tuple(islands))


def _kind(node: ir.Node, types: dict[str | None, ir.DataType | None]) -> str:
    if node.op_type in _BOUNDARY:
        return "boundary"
    if node.op_type in _REORDER:
        return "reorder"
    first = types.get(node.inputs[0].name) if node.inputs and node.inputs[0] is not None else None
    if node.op_type.startswith("QLinear") or node.op_type.endswith("Integer") or node.op_type in _INTEGER:
        return "integer"
    if first in _INTS:
        return "integer"
    return "float" if first in _FLOATS else "other"


def _island(node: ir.Node) -> list[FloatNode]:
    for value in node.inputs:
        producer = None if value is None else value.producer()
        if value is not None and producer is not None and producer.op_type == "DequantizeLinear":
            return [FloatNode(node.name or "", node.op_type, f"reads {value.name!r}, dequantized just before")]
    return []


def _output_type(node: ir.Node, types: dict[str | None, ir.DataType | None]) -> ir.DataType | None:
    """Element type of the outputs: the saved graph does not tell it."""
    known = [None if value is None else types.get(value.name) for value in node.inputs]
    match node.op_type:
        case "QuantizeLinear":
            return known[2] if len(known) > 2 else ir.DataType.UINT8
        case "DynamicQuantizeLinear":
            return ir.DataType.UINT8
        case "DequantizeLinear":
            return known[1]
        case "ConvInteger" | "MatMulInteger":
            return ir.DataType.INT32
        case "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM" | "MatMulIntegerToFloat" | "QAttention":
            return ir.DataType.FLOAT
        case "QGemm":
            return known[0] if len(known) > 8 and known[8] is not None else ir.DataType.FLOAT
        case "Cast" | "Constant" | "ConstantOfShape":
            return node.outputs[0].dtype or _told(node)
        case "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero":
            return ir.DataType.INT64
        case "Where":
            return known[1]
        case "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual" | "Not" | "And" | "Or" | "IsNaN":
            return ir.DataType.BOOL
    return known[0] if known else None


def _told(node: ir.Node) -> ir.DataType | None:
    to = node.attributes.get("to")
    if to is not None:
        return ir.DataType(to.as_int())
    value = node.attributes.get("value")
    return value.as_tensor().dtype if value is not None and value.type == ir.AttributeType.TENSOR else None
