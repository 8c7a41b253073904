"""As much of ONNX as the checker needs, read and edited as bytes: nodes, and more graph outputs.

Protocol Buffers encoding (protobuf.dev, "Encoding"); field numbers from onnx/onnx.proto.
"""

from __future__ import annotations

from typing import Any

__all__ = ["nodes", "with_outputs"]

_GRAPH = 7  # of ModelProto
_NODE, _OUTPUT = 1, 12  # of GraphProto
_NAME_OF_VALUE = 1  # of ValueInfoProto


def nodes(data: Any) -> Any:
    """[{"name", "op", "inputs", "outputs"}] of the main graph, in its order."""
    found = []
    for number, value in _fields(memoryview(data)):
        if number != _GRAPH:
            continue
        for part, body in _fields(value):
            if part == _NODE:
                found.append(_node(body))
    return found


def with_outputs(data: Any, names: Any) -> bytes:
    """The same model with these values as further outputs.

    A message that occurs twice is merged, repeated fields one after the other ("Last One Wins" of the encoding guide):
    a second ``graph`` that holds nothing but outputs adds them.
    """
    outputs: bytes = b"".join(_bytes(_OUTPUT, _bytes(_NAME_OF_VALUE, name.encode())) for name in names)
    return bytes(data) + _bytes(_GRAPH, outputs)


def _node(body: Any) -> Any:
    texts: Any = {1: [], 2: [], 3: [""], 4: [""]}
    for number, value in _fields(body):
        if number in texts:
            texts[number].append(bytes(value).decode("utf-8", "replace"))
    return {"name": texts[3][-1], "op": texts[4][-1], "inputs": texts[1], "outputs": texts[2]}


def _fields(body: Any) -> Any:
    """(field number, value) of a message; bytes as a view, numbers left out."""
    place = 0
    while place < len(body):
        key, place = _varint(body, place)
        kind = key & 7
        if kind == 0:
            _, place = _varint(body, place)
        elif kind == 1:
            place += 8
        elif kind == 5:
            place += 4
        elif kind == 2:
            size, place = _varint(body, place)
            if place + size > len(body):
                raise ValueError("not an ONNX file, or a truncated one")
            yield key >> 3, body[place : place + size]
            place += size
        else:
            raise ValueError("not an ONNX file: wire type %d" % kind)


def _varint(body: Any, place: Any) -> Any:
    number = shift = 0
    while True:
        if place >= len(body) or shift > 63:
            raise ValueError("not an ONNX file, or a truncated one")
        byte = body[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
        shift += 7


def _bytes(number: Any, value: Any) -> bytes:
    found: bytes = _number(number << 3 | 2) + _number(len(value)) + value
    return found


def _number(value: Any) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
