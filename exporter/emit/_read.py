"""Any TFLite file -> a small summary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from exporter.emit._flatbuffer import CODES, IDENTIFIER, TYPE_NAMES, TYPES
from exporter.errors import BundleError
from exporter.grid import unpack_bits

__all__ = ["TfliteFile", "TfliteOperator", "TfliteSubgraph", "TfliteTensor", "parse"]


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
class TfliteSubgraph:
    """``signature`` is empty for one that only other operators call. inputs and outputs: (name, tensor index)."""

    signature: str
    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class TfliteFile:
    """All subgraphs of a file; tensors, operators, inputs and outputs are those of the first."""

    subgraphs: tuple[TfliteSubgraph, ...]

    @property
    def tensors(self) -> tuple[TfliteTensor, ...]:
        """Of the first subgraph."""
        return self.subgraphs[0].tensors

    @property
    def operators(self) -> tuple[TfliteOperator, ...]:
        """Of the first subgraph."""
        return self.subgraphs[0].operators

    @property
    def inputs(self) -> tuple[tuple[str, int], ...]:
        """Of the first subgraph."""
        return self.subgraphs[0].inputs

    @property
    def outputs(self) -> tuple[tuple[str, int], ...]:
        """Of the first subgraph."""
        return self.subgraphs[0].outputs


def parse(data: bytes | memoryview, where: str = "the file") -> TfliteFile:
    """Summary of a TFLite file. Raises BundleError when it is not one, or is damaged."""
    if len(data) < 16 or bytes(data[4:8]) != IDENTIFIER:
        raise BundleError(f"{where} is not a TFLite file", "expected the identifier TFL3")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
        buffers = [_raw(b, data) for b in model.buffers]
        return TfliteFile(tuple(_subgraph(model, i, buffers) for i in range(len(model.subgraphs))))
    except Exception as error:  # a damaged flatbuffer fails anywhere in the generated code
        raise BundleError(f"{where} is a damaged TFLite file", "export it again") from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _raw(buffer: Any, data: bytes | memoryview) -> npt.NDArray[np.uint8] | None:
    """Bytes of a constant: inside the flatbuffer, or behind it at an offset."""
    if buffer.offset > 1:
        return np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
    return None if buffer.data is None or not len(buffer.data) else np.asarray(buffer.data, np.uint8)


def _subgraph(model: Any, place: int, buffers: Sequence[npt.NDArray[np.uint8] | None]) -> TfliteSubgraph:
    graph = model.subgraphs[place]
    tensors = tuple(_read_tensor(t, buffers) for t in graph.tensors)
    operators = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = CODES[number] if number != schema.BuiltinOperator.CUSTOM else f"CUSTOM {_text(code.customCode)}"
        operators.append(
            TfliteOperator(name, tuple(map(int, operator.inputs)), tuple(map(int, operator.outputs)), int(code.version))
        )
    signature = next((s for s in model.signatureDefs or [] if s.subgraphIndex == place), None)

    def named(indices: Sequence[int], entries: Sequence[Any]) -> tuple[tuple[str, int], ...]:
        names = {int(e.tensorIndex): _text(e.name) for e in entries}
        return tuple((names.get(int(i), tensors[int(i)].name), int(i)) for i in indices)

    inputs = named(_indices(graph.inputs), signature.inputs if signature else [])
    outputs = named(_indices(graph.outputs), signature.outputs if signature else [])
    return TfliteSubgraph(
        _text(signature.signatureKey) if signature else "", tensors, tuple(operators), inputs, outputs
    )


def _indices(found: Any) -> Sequence[int]:
    return [] if found is None else list(found)


def _read_tensor(tensor: Any, buffers: Sequence[npt.NDArray[np.uint8] | None]) -> TfliteTensor:
    dtype = TYPE_NAMES.get(tensor.type, f"type {tensor.type}")
    shape = tuple(int(s) for s in ([] if tensor.shape is None else tensor.shape))
    raw = buffers[tensor.buffer]
    quantization = tensor.quantization
    scale = np.zeros(0, np.float32) if quantization is None or quantization.scale is None else quantization.scale
    zero = np.zeros(0, np.int64) if quantization is None or quantization.zeroPoint is None else quantization.zeroPoint
    data = None if raw is None else _read_data(raw, dtype, shape)
    axis = 0 if quantization is None else int(quantization.quantizedDimension)
    size = 0 if raw is None else len(raw)
    return TfliteTensor(
        re.sub(r"[\x00-\x1f]", "?", _text(tensor.name)), shape, dtype, np.asarray(scale, np.float32),
        np.asarray(zero, np.int64), axis, data, size,
    )  # fmt: skip


def _read_data(raw: npt.NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
    if dtype in {"int4", "int2"}:
        return unpack_bits(raw, int(dtype[3:]), int(np.prod(shape)), signed=True).reshape(shape).astype(np.int8)
    if dtype not in TYPES:
        return None
    return raw.view(np.dtype(dtype)).reshape(shape)
