"""Rows of the arrays in an .npz file, read as they are asked for: the file may be larger than memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from exporter.errors import DataError

__all__ = ["Rows", "open_npz"]

_FAULTS = (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
_SKIP = 1 << 20  # bytes read at once on the way to a row
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Rows:
    """One array of the file. ``rows[index]`` reads the rows of an integer array; ascending ones in a single pass."""

    def __init__(self, path: Path, member: str) -> None:
        self._path, self._member = path, member
        self._zip: zipfile.ZipFile | None = None
        self._file: IO[bytes] | None = None
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise _Whole
            self.shape, fortran, self.dtype = _HEADERS[version](file)
            self._start = file.tell()
            held = archive.getinfo(member).file_size - self._start
        if fortran or self.dtype.hasobject or not self.shape or not held:
            raise _Whole
        self._bytes = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=object))
        if self._bytes * self.shape[0] != held:
            raise ValueError(f"{member} holds {held} bytes, its header says {self._bytes * self.shape[0]}")

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """[len(index), ...]. Raises DataError where the file does not give what its header promises."""
        found = np.empty((len(index), *self.shape[1:]), self.dtype)
        try:
            for place in np.argsort(index, kind="stable"):
                row = np.frombuffer(self._read(int(index[place])), self.dtype)
                found[place] = row.reshape(self.shape[1:])
        except _FAULTS as error:
            raise DataError(f"{self._path}: {self._member} cannot be read: {error}", "save it again") from error
        return found

    def _read(self, row: int) -> bytes:
        if not 0 <= row < len(self):
            raise ValueError(f"no row {row} among {len(self)}")
        if self._zip is None or self._file is None:
            self._zip = zipfile.ZipFile(self._path)
            self._file = self._zip.open(self._member)
        target = self._start + row * self._bytes
        if self._file.tell() > target:
            self._file.seek(0)
        while (left := target - self._file.tell()) > 0:
            if not self._file.read(min(left, _SKIP)):
                break
        data = self._file.read(self._bytes)
        if len(data) != self._bytes:
            raise EOFError("it is truncated")
        return data

    def __del__(self) -> None:
        for opened in (getattr(self, "_file", None), getattr(self, "_zip", None)):
            if opened is not None:
                opened.close()


class _Whole(Exception):
    """An array whose rows do not lie one after the other."""


def open_npz(path: Path, whole: tuple[str, ...]) -> Mapping[str, npt.NDArray[Any] | Rows]:
    """By name; the arrays named in ``whole`` (labels) are read at once. Raises DataError for what is no .npz."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
        return {name.removesuffix(".npy"): _open(path, name, whole) for name in members}
    except _FAULTS as error:
        raise DataError(f"{path} is not an .npz file of plain arrays, or it is truncated", "save it again") from error


def _open(path: Path, member: str, whole: tuple[str, ...]) -> npt.NDArray[Any] | Rows:
    key = member.removesuffix(".npy")
    if key not in whole:
        try:
            return Rows(path, member)
        except _Whole:
            pass
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        array: npt.NDArray[Any] = archive[key]
        return array
