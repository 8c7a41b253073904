"""Rows of an .npz: the same as numpy's, never the whole array in memory, and one line for a file that lies."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.data.npz import Rows, open_npz
from exporter.errors import DataError

ARRAYS = {
    "images": np.random.default_rng(0).integers(0, 256, (50, 4, 3), np.uint8),
    "pairs": np.arange(100, dtype="<i8").reshape(50, 2),
    "big_endian": np.arange(50, dtype=">f4"),
    "empty_rows": np.zeros((50, 0), np.float32),
    "fortran": np.asfortranarray(np.arange(100.0).reshape(50, 2)),
    "number": np.asarray(3.0),
    "none": np.zeros((0, 3), np.float32),
    "labels": np.arange(50),
}


@pytest.fixture(scope="module", params=[np.savez, np.savez_compressed], ids=["stored", "compressed"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("npz") / "data.npz"
    request.param(file, **ARRAYS)
    return file


@settings(max_examples=30, deadline=None)
@given(index=st.lists(st.integers(0, 49), max_size=20))
def test_any_rows_in_any_order(path: Path, index: list[int]) -> None:
    opened = open_npz(path, ("labels",))
    assert list(opened) == list(ARRAYS)
    assert isinstance(opened["images"], Rows)
    assert isinstance(opened["labels"], np.ndarray), "labels are read at once"
    for name, array in ARRAYS.items():
        found = opened[name]
        assert found.ndim == array.ndim
        if len(array.shape) and len(array):
            np.testing.assert_array_equal(found[np.asarray(index, np.int64)], array[np.asarray(index, np.int64)])
            assert found.dtype == array.dtype


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "data.npz", images=np.zeros((64, 1 << 20), np.uint8))
    tracemalloc.start()
    rows = open_npz(tmp_path / "data.npz", ())["images"]
    for start in range(0, 64, 8):
        rows[np.arange(start, start + 8, 4)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20, "of 64 MB"


def test_faulty_files_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, images=np.zeros((50, 100), np.uint8))
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    with pytest.raises(DataError, match="truncated"):
        open_npz(file, ())
    place = whole.index(b"'shape': (50, 100)")
    file.write_bytes(whole[:place] + b"'shape': (99, 100)" + whole[place + 18 :])
    with pytest.raises(DataError):
        open_npz(file, ())["images"][np.arange(50)]
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "no array")
    with pytest.raises(DataError, match="plain arrays"):
        open_npz(file, ())
    np.savez(file, images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="plain arrays"):
        open_npz(file, ())
