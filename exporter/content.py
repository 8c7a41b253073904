"""A file that is not written yet: its pieces in order, the large ones as arrays that stay where they are until then."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from exporter.grid import pack_bits

__all__ = ["Content", "stored_bytes"]

_CHUNK = 1 << 22  # bytes copied at a time
_PACKED = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """``pieces``: bytes, or arrays in any memory order that are written in C order (4- and 2-bit ones packed)."""

    pieces: tuple[bytes | Array, ...]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(len(p) if isinstance(p, bytes) else stored_bytes(p) for p in self.pieces)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The file from front to back, a few megabytes at a time."""
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from _array_chunks(piece)

    def write(self, file: BinaryIO) -> str:
        """Write everything; returns the SHA-256 in hex."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
            file.write(chunk)
        return digest.hexdigest()

    def __bytes__(self) -> bytes:
        return b"".join(self.chunks())


def stored_bytes(array: Array) -> int:
    """Size of an array in a file; 4- and 2-bit types are packed."""
    bits = _PACKED.get(array.dtype.name)
    return array.nbytes if bits is None else -(-array.size * bits // 8)


def _array_chunks(array: Array) -> Iterator[bytes | memoryview]:
    bits = _PACKED.get(array.dtype.name)
    if bits is not None:
        yield pack_bits(array.astype(np.int8), bits).tobytes()
        return
    if array.nbytes <= _CHUNK or array.ndim < 2:
        yield _memory(array)
        return
    rows = max(_CHUNK // (array.nbytes // len(array)), 1)
    for start in range(0, len(array), rows):
        yield _memory(array[start : start + rows])


def _memory(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
