"""Of each weight: in how many bits it lies in the file, and in how many the loaded runtime computes with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.emit.tflite import read_tflite
from exporter.emit.unpack import read_packed
from exporter.inspection.types import WeightUse
from exporter.reference import native_silence

__all__ = ["onnx_weights", "tflite_weights"]

_LEAST = 64  # values: below, it is a scale or a table of shapes
_SUFFIX = re.compile(
    r"_(dequantized|quantized|float|float32(/float16)?|(dynamic|table)_integers|(nbits|table)_(bytes|rows))$"
)
_RECURRENT = frozenset({"RNN", "GRU", "LSTM", "DynamicQuantizeLSTM"})
_LOOKS = frozenset({"Gather", "GatherBlockQuantized"})
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})  # a float constant of another operator is no weight
_TFLITE_LAYERS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"})


def onnx_weights(file: ir.Model, loaded: ir.Model) -> tuple[WeightUse, ...]:
    """``loaded``: the graph that ONNX Runtime saved after its optimisation of ``file``."""
    constants = _constants(file)
    ready = {v.name: v for v in loaded.graph.initializers.values()}
    found: dict[str, WeightUse] = {}
    for node in file.graph:
        if all(v is None or v.name in constants for v in node.inputs):
            continue
        for value in _weights_of(node):
            use = _onnx_use(node, value, constants[value.name], ready) if value.name in constants else None
            if use is not None:
                found.setdefault(use.name, use)
    return tuple(found.values())


def _weights_of(node: ir.Node) -> list[ir.Value]:
    indices = (0,) if node.op_type in _LOOKS else (1, 2) if node.op_type in _RECURRENT else (1,)
    return [v for i in indices if i < len(node.inputs) and (v := node.inputs[i]) is not None]


def _constants(file: ir.Model) -> dict[str | None, list[ir.Value]]:
    """Every value that a runtime can compute when it loads the file, with the initializers that it is made of.

    What a DequantizeLinear makes is not among them: onnxruntime leaves it to the integer kernels, or to every run.
    """
    found: dict[str | None, list[ir.Value]] = {v.name: [v] for v in file.graph.initializers.values()}
    for node in file.graph:
        inputs = [v for v in node.inputs if v is not None]
        if inputs and all(v.name in found for v in inputs):
            for value in node.outputs:
                found[value.name] = [root for v in inputs for root in found[v.name]]
    return found


def _onnx_use(
    node: ir.Node, value: ir.Value, roots: list[ir.Value], ready: Mapping[str | None, ir.Value]
) -> WeightUse | None:
    narrow = [v for v in roots if v.dtype is not None and v.dtype.bitwidth <= 16]  # beside its scales and shapes
    root = max(narrow or roots, key=lambda v: 0 if v.const_value is None else v.const_value.nbytes)
    if root.const_value is None or (root.dtype == ir.DataType.FLOAT and node.op_type not in _LAYERS):
        return None
    inner, maker = value, value.producer()
    while maker is not None and maker.op_type == "DequantizeLinear" and maker.inputs[0] is not None:
        inner = maker.inputs[0]
        maker = inner.producer()
    name = _SUFFIX.sub("", value.name or "")
    if root.dtype == ir.DataType.FLOAT:
        return _use_of(name, root, _count(root), 32, node.op_type)
    held = ready.get(value.name) or ready.get(inner.name) or _renamed(inner.name, ready)
    if held is None or held.shape is None:  # reordered for a float kernel, under a name of its own
        return _use_of(name, root, _count(root), 32, node.op_type)
    op = next(iter(graph.consumers(held)), None)
    bits = _bits_of(op)
    count = int(np.prod(held.shape.numpy())) * 8 // (bits or 8)
    runs = bits or int(held.dtype.bitwidth if held.dtype is not None else 0)
    if op is not None and op.op_type == "DequantizeLinear":
        runs = 32  # dequantized in every run
    return _use_of(name, root, count, runs, op.op_type if op is not None else "")


def _use_of(name: str, root: ir.Value, count: int, runs: int, op: str) -> WeightUse | None:
    if count < _LEAST:
        return None
    assert root.const_value is not None
    return WeightUse(name, round(root.const_value.nbytes * 8 / count), runs, op, count)


def _count(root: ir.Value) -> int:
    """Values in an initializer; a shipped file tells no shape of what it unpacks to."""
    packed = next((node for node in graph.consumers(root) if read_packed(node) is not None), None)
    shape = root.shape.numpy() if packed is None and root.shape is not None else ()
    return int(np.prod(packed.attributes["shape"].as_ints() if packed is not None else shape))


def _renamed(name: str | None, ready: Mapping[str | None, ir.Value]) -> ir.Value | None:
    """The optimiser transposes some weights under names of its own."""
    return next((v for key, v in ready.items() if name and key and key.startswith(name)), None)


def _bits_of(node: ir.Node | None) -> int:
    if node is None or node.op_type not in {"MatMulNBits", "GatherBlockQuantized"}:
        return 0
    return node.attributes.get_int("bits", 4)


def tflite_weights(path: Path) -> tuple[WeightUse, ...]:
    """What XNNPACK takes it computes in the file's bits; TFLite's own kernels widen to int8 first."""
    file = read_tflite(path.read_bytes(), str(path))
    taken = _taken(path)
    found: dict[str, WeightUse] = {}  # by name: the steps of a recurrent layer share theirs, in and before its loop
    loops = [subgraph for subgraph in file.subgraphs[1:] if not subgraph.signature]
    for subgraph, operator in ((s, o) for s in (file.subgraphs[0], *loops) for o in s.operators):
        index = 0 if operator.code in {"GATHER", "DEQUANTIZE"} else 1
        if len(operator.inputs) <= index or operator.inputs[index] < 0:
            continue
        tensor = subgraph.tensors[operator.inputs[index]]
        if tensor.data is None or tensor.data.size < _LEAST:
            continue
        name = _SUFFIX.sub("", tensor.name)
        if tensor.dtype == "float32" and operator.code in _TFLITE_LAYERS:
            found.setdefault(tensor.name, WeightUse(name, 32, 32, operator.code, int(tensor.data.size)))
        if tensor.dtype == "float16" and operator.code == "DEQUANTIZE":
            found.setdefault(tensor.name, WeightUse(name, 16, 32, operator.code, int(tensor.data.size)))
        if not tensor.scale.size and not tensor.dtype.startswith("int4"):
            continue
        if tensor.dtype not in {"int8", "int4", "int2"}:
            continue
        stored = int(tensor.dtype.removeprefix("int"))
        runs = stored
        if operator.code == "DEQUANTIZE":
            runs = 32
        elif stored < 8 and operator.code != "EMBEDDING_LOOKUP":
            # XNNPACK takes the bodies of loops, too; the interpreter tells of none
            in_loop = bool(taken) and subgraph is not file.subgraphs[0]
            runs = stored if in_loop or operator.inputs[index] in taken else 8
        use = WeightUse(name, stored, runs, operator.code, int(tensor.data.size))
        found.setdefault(tensor.name, use)
    return tuple(found.values())


def _taken(path: Path) -> set[int]:
    """Tensors that a delegate reads. Empty where the interpreter does not load the file or does not tell."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        with native_silence():
            interpreter = Interpreter(str(path), num_threads=1)
            interpreter.allocate_tensors()
            details = interpreter._get_ops_details()
    except (ValueError, RuntimeError, AttributeError):
        return set()
    return {int(i) for op in details if op["op_name"] == "DELEGATE" for i in op["inputs"]}
