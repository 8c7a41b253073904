"""The TFLite schema: the only file that knows it. Writes a finished program, reads any file into a small summary."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from exporter.errors import BundleError
from exporter.ops.lowering import Operator, Quant, Tensor

__all__ = ["TfliteFile", "TfliteOperator", "TfliteTensor", "parse", "serialize"]

_IDENTIFIER = b"TFL3"
_TYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "float64": "FLOAT64", "int32": "INT32", "int64": "INT64",
    "bool": "BOOL", "int8": "INT8", "uint8": "UINT8", "int16": "INT16", "uint16": "UINT16",
    "uint32": "UINT32", "int4": "INT4", "int2": "INT2", "complex64": "COMPLEX64",
}  # fmt: skip
_TYPE_NAMES = {
    getattr(schema.TensorType, value): key for key, value in _TYPES.items() if hasattr(schema.TensorType, value)
}
_CODES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}

# operator versions (tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc): (float, int8)
_VERSIONS = {
    "CONV_2D": (1, 3), "DEPTHWISE_CONV_2D": (2, 3), "FULLY_CONNECTED": (2, 4), "ADD": (1, 2), "SUB": (1, 2),
    "MUL": (1, 2), "AVERAGE_POOL_2D": (1, 2), "MAX_POOL_2D": (1, 2), "CONCATENATION": (1, 2), "SOFTMAX": (1, 2),
    "LOGISTIC": (1, 2), "TANH": (1, 2), "MEAN": (1, 2), "PAD": (1, 2), "PADV2": (1, 2), "STRIDED_SLICE": (1, 2),
    "SLICE": (1, 2), "TRANSPOSE": (1, 2), "SPLIT": (1, 2), "SPLIT_V": (1, 2), "RESIZE_BILINEAR": (3, 3),
    "RESIZE_NEAREST_NEIGHBOR": (3, 3), "LEAKY_RELU": (1, 2), "RELU": (1, 2), "RELU6": (1, 2), "GATHER": (1, 2),
    "BATCH_MATMUL": (1, 2), "DEPTH_TO_SPACE": (1, 2), "SPACE_TO_DEPTH": (1, 2), "MINIMUM": (1, 2), "MAXIMUM": (1, 2),
    "TILE": (1, 2), "BROADCAST_TO": (2, 2), "DEQUANTIZE": (1, 2), "QUANTIZE": (1, 2), "TRANSPOSE_CONV": (3, 3),
    "REDUCE_MAX": (1, 2), "REDUCE_MIN": (1, 2), "SUM": (1, 2), "ARG_MAX": (1, 2), "PRELU": (1, 1),
}  # fmt: skip


class _Buffer:
    """A buffer of the model: aligned to 16 bytes, as the schema asks (force_align)."""

    def __init__(self, data: bytes | memoryview | None) -> None:
        self.data = data

    def Pack(self, builder: flatbuffers.Builder) -> int:
        place = None
        if self.data:
            builder.StartVector(1, len(self.data), 16)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
            place = builder.EndVector()
        schema.BufferStart(builder)
        if place is not None:
            schema.BufferAddData(builder, place)
        return int(schema.BufferEnd(builder))


def serialize(
    operators: Sequence[Operator],
    inputs: Sequence[tuple[str, Tensor]],
    outputs: Sequence[tuple[str, Tensor]],
    name: str,
) -> bytes:
    """A flatbuffer: one subgraph, signature ``serving_default``; inputs and outputs as (ONNX name, tensor)."""
    tensors = _all_tensors(operators, inputs, outputs)
    index = {id(t): i for i, t in enumerate(tensors)}
    buffers: list[_Buffer] = [_Buffer(None)]
    model = schema.ModelT()
    model.version, model.description = 3, "kbit"
    graph = schema.SubGraphT()
    graph.name = name
    graph.tensors = [_tensor(t, buffers) for t in tensors]
    graph.inputs = [index[id(t)] for _, t in inputs]
    graph.outputs = [index[id(t)] for _, t in outputs]
    codes: dict[tuple[str, int], int] = {}
    graph.operators = [_operator(o, index, codes) for o in operators]
    model.operatorCodes = [_code(*key) for key in codes]
    model.subgraphs, model.buffers = [graph], buffers
    model.signatureDefs = [_signature(inputs, outputs, index)]
    size = sum(len(b.data) for b in buffers if b.data) + 4096
    builder = flatbuffers.Builder(size + 512 * (len(tensors) + len(operators)))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def _all_tensors(
    operators: Sequence[Operator], inputs: Sequence[tuple[str, Tensor]], outputs: Sequence[tuple[str, Tensor]]
) -> list[Tensor]:
    found = {id(t): t for _, t in inputs}
    for operator in operators:
        found.update({id(t): t for t in [*operator.inputs, *operator.outputs] if t is not None})
    found.update({id(t): t for _, t in outputs})
    return list(found.values())


def _tensor(tensor: Tensor, buffers: list[_Buffer]) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.hasRank = tensor.name, list(tensor.shape), True
    if tensor.dynamic:
        made.shapeSignature = [-1 if i in tensor.dynamic else s for i, s in enumerate(tensor.shape)]
    made.type = getattr(schema.TensorType, _TYPES[tensor.dtype.name])
    if tensor.data is None:
        made.buffer = 0
    else:
        made.buffer = len(buffers)
        buffers.append(_Buffer(_bytes(tensor.data)))
    if tensor.quant is not None:
        made.quantization = _quantization(tensor.quant)
    return made


def _bytes(data: npt.NDArray[Any]) -> bytes | memoryview:
    bits = {"int4": 4, "int2": 2}.get(data.dtype.name)
    if bits is not None:
        from exporter.grid import pack_bits

        return pack_bits(data.astype(np.int8), bits).tobytes()
    return data.tobytes()


def _quantization(quant: Quant) -> Any:
    made = schema.QuantizationParametersT()
    made.scale = np.atleast_1d(quant.scale).astype(np.float32)
    made.zeroPoint = np.atleast_1d(quant.zero_point).astype(np.int64)
    made.quantizedDimension = quant.axis or 0
    return made


def _code(name: str, version: int) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode = getattr(schema.BuiltinOperator, name)
    made.deprecatedBuiltinCode = min(made.builtinCode, 127)  # PLACEHOLDER_FOR_GREATER_OP_CODES
    made.version = version
    return made


def _operator(operator: Operator, index: Mapping[int, int], codes: dict[tuple[str, int], int]) -> Any:
    integer = any(t is not None and t.quant is not None for t in [*operator.inputs, *operator.outputs])
    version = _VERSIONS.get(operator.code, (1, 1))[1 if integer else 0]
    made = schema.OperatorT()
    made.opcodeIndex = codes.setdefault((operator.code, version), len(codes))
    made.inputs = [-1 if t is None else index[id(t)] for t in operator.inputs]
    made.outputs = [index[id(t)] for t in operator.outputs]
    if operator.options is not None:
        table, fields = operator.options
        options = getattr(schema, f"{table}T")()
        for key, value in fields.items():
            if not hasattr(options, key):
                raise AttributeError(f"{table} has no field {key!r}")
            setattr(options, key, getattr(schema, _ENUMS[key]).__dict__[value] if key in _ENUMS else value)
        second = not hasattr(schema.BuiltinOptions, table)
        kind = getattr(schema.BuiltinOptions2 if second else schema.BuiltinOptions, table)
        if second:
            made.builtinOptions2Type, made.builtinOptions2 = kind, options
        else:
            made.builtinOptionsType, made.builtinOptions = kind, options
    return made


_ENUMS = {"padding": "Padding", "fusedActivationFunction": "ActivationFunctionType", "mode": "MirrorPadMode"}


def _signature(
    inputs: Sequence[tuple[str, Tensor]], outputs: Sequence[tuple[str, Tensor]], index: Mapping[int, int]
) -> Any:
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = "serving_default", 0
    made.inputs, made.outputs = [], []
    for target, pairs in ((made.inputs, inputs), (made.outputs, outputs)):
        for name, tensor in pairs:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index[id(tensor)]
            target.append(entry)
    return made


@dataclass(frozen=True, slots=True, eq=False)
class TfliteTensor:
    """One tensor of a file; ``scale`` is empty when it is not quantized. ``data`` is None for computed tensors."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    quantized_axis: int
    data: npt.NDArray[Any] | None
    bytes: int


@dataclass(frozen=True, slots=True)
class TfliteOperator:
    """One operator: builtin name, and tensors by index (-1: left out)."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    version: int


@dataclass(frozen=True, slots=True)
class TfliteFile:
    """A file with one subgraph. inputs and outputs: (signature name, tensor index)."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


def parse(data: bytes, where: str = "the file") -> TfliteFile:
    """Summary of a TFLite file. Raises BundleError when it is not one, or is damaged."""
    if len(data) < 16 or data[4:8] != _IDENTIFIER:
        raise BundleError(f"{where} is not a TFLite file", "expected the identifier TFL3")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
        return _summary(model)
    except Exception as error:  # a damaged flatbuffer fails anywhere in the generated code
        raise BundleError(f"{where} is a damaged TFLite file", "export it again") from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _summary(model: Any) -> TfliteFile:
    graph = model.subgraphs[0]
    tensors = tuple(_read_tensor(t, model.buffers) for t in graph.tensors)
    operators = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = _CODES[number] if number != schema.BuiltinOperator.CUSTOM else f"CUSTOM {_text(code.customCode)}"
        operators.append(
            TfliteOperator(name, tuple(map(int, operator.inputs)), tuple(map(int, operator.outputs)), int(code.version))
        )
    signature = model.signatureDefs[0] if model.signatureDefs else None

    def named(indices: Sequence[int], entries: Sequence[Any]) -> tuple[tuple[str, int], ...]:
        names = {int(e.tensorIndex): _text(e.name) for e in entries}
        return tuple((names.get(int(i), tensors[int(i)].name), int(i)) for i in indices)

    inputs = named(graph.inputs, signature.inputs if signature else [])
    outputs = named(graph.outputs, signature.outputs if signature else [])
    return TfliteFile(tensors, tuple(operators), inputs, outputs)


def _read_tensor(tensor: Any, buffers: Sequence[Any]) -> TfliteTensor:
    dtype = _TYPE_NAMES.get(tensor.type, f"type {tensor.type}")
    shape = tuple(int(s) for s in ([] if tensor.shape is None else tensor.shape))
    raw = buffers[tensor.buffer].data
    quantization = tensor.quantization
    scale = np.zeros(0, np.float32) if quantization is None or quantization.scale is None else quantization.scale
    zero = np.zeros(0, np.int64) if quantization is None or quantization.zeroPoint is None else quantization.zeroPoint
    data = None
    if raw is not None and len(raw):
        data = _read_data(np.asarray(raw, np.uint8), dtype, shape)
    axis = 0 if quantization is None else int(quantization.quantizedDimension)
    size = 0 if raw is None else len(raw)
    return TfliteTensor(
        re.sub(r"[\x00-\x1f]", "?", _text(tensor.name)), shape, dtype, np.asarray(scale, np.float32),
        np.asarray(zero, np.int64), axis, data, size,
    )  # fmt: skip


def _read_data(raw: npt.NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
    if dtype in {"int4", "int2"}:
        from exporter.grid import unpack_bits

        return unpack_bits(raw, int(dtype[3:]), int(np.prod(shape)), signed=True).reshape(shape).astype(np.int8)
    if dtype not in _TYPES:
        return None
    return raw.view(np.dtype(dtype)).reshape(shape)
