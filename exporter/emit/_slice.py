"""Parts of a TFLite file as files of their own: one operator, or the whole with inner tensors as outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exporter.emit._flatbuffer import IDENTIFIER, Buffer
from exporter.errors import BundleError

__all__ = ["Parts", "open_parts"]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """A parsed file with one subgraph."""

    model: Any

    def single(self, place: int) -> tuple[bytes, list[int], list[int]]:
        """Operator ``place`` alone: the file, and which tensors of the whole its inputs and outputs are."""
        graph = self.model.subgraphs[0]
        operator = copy.copy(graph.operators[place])
        used = [int(i) for i in [*operator.inputs, *operator.outputs] if i >= 0]
        kept = list(dict.fromkeys(used))
        index = {old: new for new, old in enumerate(kept)}
        part, inner = schema.ModelT(), schema.SubGraphT()
        part.version, part.buffers = 3, [schema.BufferT()]
        inner.tensors = []
        for old in kept:
            tensor = copy.copy(graph.tensors[old])
            buffer = self.model.buffers[tensor.buffer]
            tensor.buffer = 0
            if buffer.data is not None and len(buffer.data):
                tensor.buffer = len(part.buffers)
                part.buffers.append(buffer)
            inner.tensors.append(tensor)
        fed = [int(i) for i in dict.fromkeys(operator.inputs) if i >= 0 and not inner.tensors[index[int(i)]].buffer]
        made = [int(i) for i in operator.outputs]
        operator.inputs = [index[int(i)] if i >= 0 else -1 for i in operator.inputs]
        operator.outputs = [index[i] for i in made]
        part.operatorCodes = [self.model.operatorCodes[operator.opcodeIndex]]
        operator.opcodeIndex = 0
        inner.operators = [operator]
        inner.inputs, inner.outputs = [index[i] for i in fed], [index[i] for i in made]
        part.subgraphs = [inner]
        return _packed(part), fed, made

    def tapped(self, tensors: Sequence[int]) -> bytes:
        """The whole file with these tensors as its only outputs."""
        part = copy.copy(self.model)
        inner = copy.copy(self.model.subgraphs[0])
        inner.outputs = list(tensors)
        part.subgraphs, part.signatureDefs = [inner], []
        return _packed(part)


def open_parts(data: bytes, where: str = "the file") -> Parts:
    """Raises BundleError for a file that is damaged, or whose control flow makes it more than a list of operators."""
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    except Exception as error:  # a damaged flatbuffer fails anywhere in the generated code
        raise BundleError(f"{where} is a damaged TFLite file", "export it again") from error
    if len(model.subgraphs) > 1:
        raise BundleError(
            f"{where} has {len(model.subgraphs)} subgraphs", "its operators cannot be compared one by one"
        )
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return Parts(model)


def _packed(model: Any) -> bytes:
    model.buffers = [Buffer(None if b.data is None or not len(b.data) else np.asarray(b.data)) for b in model.buffers]
    size = sum(b.data.nbytes for b in model.buffers if b.data is not None)
    builder = flatbuffers.Builder(size + 65536)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
