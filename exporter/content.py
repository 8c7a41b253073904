"""A file that is not written yet: its pieces in order, the large ones as arrays that stay where they are until then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from exporter.grid import pack_bits

__all__ = ["Content", "stored_bytes"]

_CHUNK = 1 << 22  # bytes copied at a time
_TILE = 64  # columns
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
            yield from _chunks(piece)

    def write(self, file: BinaryIO, progress: Callable[[int, int], None] | None = None) -> None:
        """Write everything; ``progress`` is called with pieces done, and pieces in all."""
        for done, piece in enumerate(self.pieces):
            if progress is not None:
                progress(done, len(self.pieces))
            for chunk in _chunks(piece):
                file.write(chunk)

    def __bytes__(self) -> bytes:
        return b"".join(self.chunks())


def stored_bytes(array: Array) -> int:
    """Size of an array in a file; 4- and 2-bit types are packed."""
    bits = _PACKED.get(array.dtype.name)
    return array.nbytes if bits is None else -(-array.size * bits // 8)


def _chunks(piece: bytes | Array) -> Iterator[bytes | memoryview]:
    if isinstance(piece, bytes):
        yield piece
    else:
        yield from _array_chunks(piece)


def _array_chunks(array: Array) -> Iterator[bytes | memoryview]:
    bits = _PACKED.get(array.dtype.name)
    if bits is not None:
        for part in _of_whole_bytes(array, bits):
            yield pack_bits(part.astype(np.int8), bits).tobytes()
        return
    if array.nbytes <= _CHUNK or array.ndim < 2:
        yield _memory(array)
        return
    rows = max(_CHUNK // (array.nbytes // len(array)), 1)
    for start in range(0, len(array), rows):
        yield _memory(array[start : start + rows])


def _of_whole_bytes(array: Array, bits: int) -> Iterable[Array]:
    """A few rows at a time, where a row ends with a byte."""
    row = array[0].size if array.ndim > 1 and array.size else 0
    if not row or row * bits % 8:
        return [array]
    rows = max(_CHUNK // row, 1)
    return (array[start : start + rows] for start in range(0, len(array), rows))


def _memory(array: Array) -> memoryview:
    if array.ndim == 2 and array.strides[0] < array.strides[1]:  # turned: tiles that fit the cache are 5 times as fast
        copy = np.empty(array.shape, array.dtype)
        for start in range(0, array.shape[1], _TILE):
            copy[:, start : start + _TILE] = array[:, start : start + _TILE]
        array = copy
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
