"""The numbers that lie in a quantized ONNX file and in a quantized TFLite file, read without any code of kbit.

Both readers give the same form, so that two files can be compared: weights as [out, …, in], activations as int8.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

__all__ = ["Layer", "Numbers", "read_onnx", "read_tflite"]

Grid = tuple[float, int]  # scale (a float32 value) and zero point, of int8 integers


@dataclass(frozen=True)
class Layer:
    """One convolution or fully-connected layer."""

    weight: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32]
    bias_scale: npt.NDArray[np.float32]
    input: Grid
    output: Grid


@dataclass(frozen=True)
class Numbers:
    """``layers`` by the bytes of their weights, ``adds`` as (inputs in order of size, output), every grid used."""

    layers: dict[bytes, Layer]
    adds: Counter[tuple[tuple[Grid, ...], Grid]]
    grids: set[Grid]
    ops: Counter[str]


class _Onnx:
    """Looks through DequantizeLinear on the way in and QuantizeLinear on the way out."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.nodes = list(graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}

    def grid(self, node: onnx.NodeProto) -> Grid:
        """Of a QuantizeLinear or DequantizeLinear; uint8 is int8 with everything moved by 128."""
        scale, zero = self.constants[node.input[1]], self.constants[node.input[2]]
        return float(scale.item()), int(zero.item()) - (128 if zero.dtype == np.uint8 else 0)

    def dequantize(self, name: str) -> onnx.NodeProto:
        node = self.maker[name]
        assert node.op_type == "DequantizeLinear", f"{name} comes from {node.op_type}"
        return node

    def output(self, node: onnx.NodeProto) -> Grid:
        (reader,) = [n for n in self.nodes if node.output[0] in n.input]
        assert reader.op_type == "QuantizeLinear", f"{node.name} is read by {reader.op_type}"
        return self.grid(reader)

    def constant(self, name: str) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float32]]:
        node = self.dequantize(name)
        if len(node.input) > 2:
            assert not self.constants[node.input[2]].any(), f"{name} has a zero point"
        return self.constants[node.input[0]], self.constants[node.input[1]]


def read_onnx(path: Path) -> Numbers:
    """Every number of a QDQ file."""
    file = _Onnx(path)
    layers, adds = {}, Counter[tuple[tuple[Grid, ...], Grid]]()
    for node in file.nodes:
        if node.op_type in ("Conv", "Gemm"):
            weight, scale = file.constant(node.input[1])
            if node.op_type == "Conv":
                weight = np.moveaxis(weight, 1, -1)
            elif not any(a.name == "transB" and a.i for a in node.attribute):
                weight = weight.T
            bias, bias_scale = file.constant(node.input[2])
            source = file.grid(file.dequantize(node.input[0]))
            found = Layer(weight, scale, bias, bias_scale, source, file.output(node))
            layers[np.ascontiguousarray(weight).tobytes()] = found
        elif node.op_type == "Add":
            sources = sorted(file.grid(file.dequantize(name)) for name in node.input)
            adds[tuple(sources), file.output(node)] += 1
    grids = {
        file.grid(n)
        for n in file.nodes
        if n.op_type in ("QuantizeLinear", "DequantizeLinear") and n.input[0] not in file.constants
    }
    return Numbers(layers, adds, grids, Counter(n.op_type for n in file.nodes))


def read_tflite(path: Path) -> Numbers:
    """Every number of a TFLite file."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = model.subgraphs
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
    blob = memoryview(path.read_bytes())

    def array(tensor: schema.TensorT, dtype: type[np.generic]) -> npt.NDArray[np.generic]:
        buffer = model.buffers[tensor.buffer]
        if buffer.data is not None and len(buffer.data):
            raw: bytes = np.asarray(buffer.data, np.uint8).tobytes()
        else:  # a buffer by offset lies behind the flatbuffer
            raw = bytes(blob[buffer.offset : buffer.offset + buffer.size])
        return np.frombuffer(raw, dtype).reshape(tensor.shape)

    def grid(tensor: schema.TensorT) -> Grid:
        return float(np.float32(tensor.quantization.scale[0])), int(tensor.quantization.zeroPoint[0])

    layers, adds, ops = {}, Counter[tuple[tuple[Grid, ...], Grid]](), Counter[str]()
    for op in graph.operators:
        name = codes[op.opcodeIndex]
        ops[name] += 1
        inputs = [graph.tensors[i] for i in op.inputs if i >= 0]
        output = graph.tensors[op.outputs[0]]
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            source, kernel, offset = inputs
            weight = array(kernel, np.int8)
            if name == "DEPTHWISE_CONV_2D":
                weight = weight.transpose(3, 1, 2, 0)
            assert not np.any(kernel.quantization.zeroPoint), f"{name} has a weight zero point"
            layers[np.ascontiguousarray(weight).tobytes()] = Layer(
                weight,
                np.asarray(kernel.quantization.scale, np.float32),
                array(offset, np.int32),
                np.asarray(offset.quantization.scale, np.float32),
                grid(source),
                grid(output),
            )
        elif name == "ADD":
            adds[tuple(sorted(map(grid, inputs))), grid(output)] += 1
    integer = [t for t in graph.tensors if t.type == schema.TensorType.INT8 and not model.buffers[t.buffer].size]
    grids = {grid(t) for t in integer if model.buffers[t.buffer].data is None}
    return Numbers(layers, adds, grids, ops)
