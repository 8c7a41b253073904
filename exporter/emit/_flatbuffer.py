"""The TFLite schema: writes finished programs. ``_read`` is the way back; no other file knows the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from exporter.content import Content, stored_bytes
from exporter.emit._versions import version_of
from exporter.ops.lowering import Operator, Quant, Region, Tensor, mark

__all__ = ["CODES", "IDENTIFIER", "TYPES", "TYPE_NAMES", "Buffer", "serialize"]

IDENTIFIER = b"TFL3"
TYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "float64": "FLOAT64", "int32": "INT32", "int64": "INT64",
    "bool": "BOOL", "int8": "INT8", "uint8": "UINT8", "int16": "INT16", "uint16": "UINT16",
    "uint32": "UINT32", "uint64": "UINT64", "bfloat16": "BFLOAT16", "complex64": "COMPLEX64", "int4": "INT4",
    "int2": "INT2",
}  # fmt: skip
TYPE_NAMES = {
    getattr(schema.TensorType, value): key for key, value in TYPES.items() if hasattr(schema.TensorType, value)
}
CODES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}

_INLINE = 1 << 25  # bytes of constants up to which they lie inside the flatbuffer, as every reader expects
_ALIGN = 64  # of constants behind it (XNNPACK reads whole cache lines)
_ENUMS = {"padding": "Padding", "fusedActivationFunction": "ActivationFunctionType", "mode": "MirrorPadMode"}


class Buffer:
    """A buffer of the model, 16-byte aligned as the schema asks (force_align): its bytes, or where they lie."""

    def __init__(self, data: npt.NDArray[Any] | None) -> None:
        self.data, self.place = data, 0

    def Pack(self, builder: flatbuffers.Builder) -> int:
        """Write the buffer's table, as the generated classes do; its offset in the builder."""
        vector = None
        if self.data is not None and not self.place:
            content = bytes(Content((self.data,)))
            builder.StartVector(1, len(content), 16)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        if self.data is not None and self.place:
            schema.BufferAddOffset(builder, self.place)
            schema.BufferAddSize(builder, stored_bytes(self.data))
        return int(schema.BufferEnd(builder))


class _Buffers:
    """All buffers of a file; a constant that several subgraphs use is stored once. The first one is empty."""

    def __init__(self) -> None:
        self.all: list[Buffer] = [Buffer(None)]
        self._index: dict[object, int] = {}

    def add(self, data: npt.NDArray[Any]) -> int:
        key = (mark(data), data.shape, data.dtype.name)
        if key not in self._index:
            self._index[key] = len(self.all)
            self.all.append(Buffer(data))
        return self._index[key]

    @property
    def size(self) -> int:
        return sum(stored_bytes(b.data) for b in self.all if b.data is not None)

    def lay_out(self, start: int) -> list[bytes | npt.NDArray[Any]]:
        """Give each buffer its place from ``start`` on; returns what to write there."""
        pieces: list[bytes | npt.NDArray[Any]] = []
        place = start
        for buffer in self.all:
            if buffer.data is None or not stored_bytes(buffer.data):
                continue
            gap = -place % _ALIGN
            buffer.place = place + gap
            pieces += [bytes(gap), buffer.data]
            place += gap + stored_bytes(buffer.data)
        return pieces


def serialize(regions: Sequence[Region]) -> Content:
    """A TFLite file: a subgraph for each region and for those that their operators call.

    A region whose ``signature`` is not empty can be run by that name. Constants of more than 32 MB in all lie behind
    the flatbuffer by offset (schema.fbs, Buffer.offset): a file may pass 2 GB, and nothing is copied before writing.
    """
    ordered = _with_children(regions)
    places = {id(region): i for i, region in enumerate(ordered)}
    buffers = _Buffers()
    codes: dict[tuple[str, int], int] = {}
    model = schema.ModelT()
    model.version, model.description = 3, "kbit"
    model.subgraphs, model.signatureDefs = [], []
    for region in ordered:
        tensors = _all_tensors(region)
        index = {id(t): i for i, t in enumerate(tensors)}
        graph = schema.SubGraphT()
        graph.name = region.name
        graph.tensors = [_tensor(t, buffers) for t in tensors]
        _refer_to_scales(graph.tensors, tensors)
        graph.inputs = [index[id(t)] for _, t in region.inputs]
        graph.outputs = [index[id(t)] for _, t in region.outputs]
        graph.operators = [_operator(o, index, codes, places) for o in region.operators]
        model.subgraphs.append(graph)
        if region.signature:
            model.signatureDefs.append(_signature(region, places[id(region)], index))
    model.operatorCodes = [_code(*key) for key in codes]
    model.buffers = buffers.all
    if buffers.size <= _INLINE:
        return Content((_packed(model, buffers.size),))
    buffers.lay_out(_ALIGN)  # any place: the flatbuffer has the same size with the real ones
    pieces = buffers.lay_out(len(_packed(model, 0)))
    return Content((_packed(model, 0), *pieces))


def _packed(model: Any, size: int) -> bytes:
    rows = sum(len(g.tensors) + len(g.operators) for g in model.subgraphs)
    builder = flatbuffers.Builder(size + 4096 + 512 * rows)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _with_children(regions: Sequence[Region]) -> list[Region]:
    found: dict[int, Region] = {id(r): r for r in regions}
    waiting = list(regions)
    while waiting:
        for operator in waiting.pop(0).operators:
            fields = operator.options[1] if operator.options is not None else {}
            for value in fields.values():
                if isinstance(value, Region) and id(value) not in found:
                    found[id(value)] = value
                    waiting.append(value)
    return list(found.values())


def _all_tensors(region: Region) -> list[Tensor]:
    found = {id(t): t for _, t in region.inputs}
    for operator in region.operators:
        found.update({id(t): t for t in [*operator.inputs, *operator.outputs] if t is not None})
    found.update({id(t): t for _, t in region.outputs})
    tables = [_block_scales(t) for t in found.values() if t.quant is not None and t.quant.block]
    return [*found.values(), *tables]


def _block_scales(tensor: Tensor) -> Tensor:
    """The scales of groups lie in a tensor of their own (schema.fbs, BlockwiseQuantization), as float16."""
    assert tensor.quant is not None
    scale = tensor.quant.scale.astype(np.float16)
    return Tensor(f"{tensor.name}/scales", scale.shape, scale.dtype, data=np.ascontiguousarray(scale))


def _tensor(tensor: Tensor, buffers: _Buffers) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.hasRank = tensor.name, list(tensor.shape), True
    if tensor.dynamic:
        made.shapeSignature = [-1 if i in tensor.dynamic else s for i, s in enumerate(tensor.shape)]
    made.type = getattr(schema.TensorType, TYPES[tensor.dtype.name])
    made.buffer = 0 if tensor.data is None else buffers.add(tensor.data)
    if tensor.quant is not None:
        made.quantization = _quantization(tensor.quant)
    return made


def _refer_to_scales(made: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    place = {tensor.name: i for i, tensor in enumerate(tensors)}
    for entry, tensor in zip(made, tensors, strict=True):
        if tensor.quant is not None and tensor.quant.block:
            details = schema.BlockwiseQuantizationT()
            details.scales, details.zeroPoints = place[f"{tensor.name}/scales"], -1
            details.blockSize = tensor.quant.block
            entry.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
            entry.quantization.details = details


def _quantization(quant: Quant) -> Any:
    made = schema.QuantizationParametersT()
    if quant.block:
        made.quantizedDimension = 0
        return made
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


def _operator(
    operator: Operator, index: Mapping[int, int], codes: dict[tuple[str, int], int], places: Mapping[int, int]
) -> Any:
    version = version_of(operator)
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
            number = places[id(value)] if isinstance(value, Region) else value
            setattr(options, key, getattr(schema, _ENUMS[key]).__dict__[value] if key in _ENUMS else number)
        second = not hasattr(schema.BuiltinOptions, table)
        kind = getattr(schema.BuiltinOptions2 if second else schema.BuiltinOptions, table)
        if second:
            made.builtinOptions2Type, made.builtinOptions2 = kind, options
        else:
            made.builtinOptionsType, made.builtinOptions = kind, options
    return made


def _signature(region: Region, place: int, index: Mapping[int, int]) -> Any:
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = region.signature, place
    made.inputs, made.outputs = [], []
    for target, pairs in ((made.inputs, region.inputs), (made.outputs, region.outputs)):
        for name, tensor in pairs:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index[id(tensor)]
            target.append(entry)
    return made
