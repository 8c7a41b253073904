"""Large ONNX files without reading them: big tensors are left where they lie and mapped when they are used.

A scan over the protobuf wire format (field number and type, then a varint, a fixed word or a length and as many bytes)
finds ``raw_data`` of the graph's initializers; each large one is replaced by a reference to its place in the file, in
ONNX's own external-data form.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

__all__ = ["read_mapped"]

_LARGE = 1 << 20  # bytes
_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_RAW_DATA = 9  # of TensorProto


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: where it starts (its tag) and ends, and where its value starts."""

    number: int
    wire: int
    start: int
    body: int
    end: int


def read_mapped(path: Path) -> onnx.ModelProto:
    """The model with every initializer of more than 1 MB as external data that lies in the file itself.

    Raises ValueError for a file that is no protobuf or is cut off.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        proto = onnx.ModelProto()
        for field in _fields(data, 0, len(data)):
            if field.number == _GRAPH and field.wire == 2:
                _merge_graph(proto.graph, data, field, path.name)
            else:
                proto.MergeFromString(data[field.start : field.end])
        return proto


def _merge_graph(graph: onnx.GraphProto, data: mmap.mmap, where: _Field, location: str) -> None:
    start = where.body
    for field in _fields(data, where.body, where.end):
        if field.number == _INITIALIZER and field.wire == 2 and field.end - field.body > _LARGE:
            graph.MergeFromString(data[start : field.start])
            _merge_tensor(graph.initializer.add(), data, field, location)
            start = field.end
    graph.MergeFromString(data[start : where.end])


def _merge_tensor(tensor: onnx.TensorProto, data: mmap.mmap, where: _Field, location: str) -> None:
    for field in _fields(data, where.body, where.end):
        if field.number == _RAW_DATA and field.wire == 2 and field.end - field.body > _LARGE:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", field.body), ("length", field.end - field.body)):
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)
        else:
            tensor.MergeFromString(data[field.start : field.end])


def _fields(data: mmap.mmap, place: int, end: int) -> Iterator[_Field]:
    while place < end:
        start = place
        tag, place = _varint(data, place, end)
        match tag & 7:
            case 0:
                body = place
                _, place = _varint(data, place, end)
            case 1:
                body, place = place, place + 8
            case 2:
                length, body = _varint(data, place, end)
                place = body + length
            case 5:
                body, place = place, place + 4
            case other:
                raise ValueError(f"wire type {other}")
        if place > end:
            raise ValueError("cut off")
        yield _Field(tag >> 3, tag & 7, start, body, place)


def _varint(data: mmap.mmap, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 64:
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
        shift += 7
    raise ValueError("cut off")
