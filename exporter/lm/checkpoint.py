"""A Hugging Face checkpoint folder: config.json, weights in safetensors (sharded or not), tokenizer.

Nothing is unpickled. Weights are read one by one, when asked for: a folder larger than the memory can be opened.
Format of safetensors: 8 bytes little-endian length n, n bytes of JSON {name: {dtype, shape, data_offsets}}, data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from exporter.errors import LoadError

__all__ = ["TOKENIZER_FILES", "Checkpoint", "Weights", "is_checkpoint", "open_checkpoint"]

Array = npt.NDArray[Any]
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.json",
    "merges.txt", "added_tokens.json", "chat_template.jinja", "generation_config.json",
)  # fmt: skip
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_MOST_HEADER = 100_000_000  # bytes; the limit of the safetensors library
_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]


class Weights(Mapping[str, tuple[int, ...]]):
    """Shapes by name; ``array`` reads one tensor."""

    def __init__(self, entries: Mapping[str, _Entry], where: Path) -> None:
        self._entries, self._where = entries, where

    def __getitem__(self, name: str) -> tuple[int, ...]:
        return self._entry(name).shape

    def __iter__(self) -> Any:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def array(self, name: str) -> npt.NDArray[np.float32]:
        """The tensor in float32. Raises LoadError when the folder has none of that name, or it is not of floats."""
        entry = self._entry(name)
        dtype = _DTYPES.get(entry.dtype)
        if dtype is None:
            found = f"{self._where}: tensor {name!r} is of type {entry.dtype}"
            raise LoadError(found, f"expected one of {', '.join(_DTYPES)}: quantize from the original checkpoint")
        count = int(np.prod(entry.shape))
        with entry.path.open("rb") as file:
            raw = np.fromfile(file, np.dtype(np.uint8), count * dtype.itemsize, offset=entry.offset)
        if raw.size != count * dtype.itemsize:
            raise LoadError(f"{entry.path} is truncated: tensor {name!r} is not complete", "copy it again")
        return np.asarray(raw.view(dtype).reshape(entry.shape), np.float32)

    def bytes_of(self, name: str) -> int:
        """Size of the tensor in its file."""
        entry = self._entry(name)
        dtype = _DTYPES.get(entry.dtype)
        return int(np.prod(entry.shape)) * (4 if dtype is None else dtype.itemsize)

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise LoadError(f"{self._where} has no tensor {name!r}", "is the checkpoint complete?")
        return self._entries[name]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An open folder. ``config`` is config.json as plain data."""

    path: Path
    config: Mapping[str, Any]
    weights: Weights

    @property
    def tokenizer(self) -> Path | None:
        """tokenizer.json, where the folder has one."""
        found = self.path / "tokenizer.json"
        return found if found.is_file() else None

    @property
    def parameters(self) -> int:
        """Number of weights, as stored."""
        return sum(int(np.prod(shape)) for shape in self.weights.values())


def is_checkpoint(path: Path) -> bool:
    """Does this look like a checkpoint folder?"""
    return path.is_dir() and (path / "config.json").is_file()


def open_checkpoint(path: Path) -> Checkpoint:
    """Raises LoadError for a folder that is missing, incomplete, damaged, or whose index points elsewhere."""
    if not path.is_dir():
        raise LoadError(f"checkpoint folder {path} does not exist", "check model.source (relative to the recipe)")
    config = _json(path / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise LoadError(f"{path / 'config.json'} names no model_type", "expected a folder of save_pretrained")
    entries: dict[str, _Entry] = {}
    for shard in _shards(path):
        entries |= _read_header(shard)
    return Checkpoint(path, config, Weights(entries, path))


def _json(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise LoadError(f"{path.parent} has no {path.name}", "expected a folder of save_pretrained") from error
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} is not JSON, or it is truncated", "copy it again") from error
    if not isinstance(body, dict):
        raise LoadError(f"{path} holds a {type(body).__name__}", "expected an object")
    return body


def _shards(path: Path) -> list[Path]:
    if (path / _INDEX).is_file():
        placed = _json(path / _INDEX).get("weight_map")
        if not isinstance(placed, dict) or not all(isinstance(v, str) for v in placed.values()):
            raise LoadError(f"{path / _INDEX} has no weight_map", "copy it again")
        names = sorted(set(placed.values()))
        for name in names:
            if Path(name).name != name:
                raise LoadError(f"{path / _INDEX} points outside its folder: {name!r}", "do not use this checkpoint")
            if not (path / name).is_file():
                raise LoadError(f"{path} lacks {name}, which its index names", "copy it again")
        return [path / name for name in names]
    if (path / _SINGLE).is_file():
        return [path / _SINGLE]
    other = next((f.name for f in path.iterdir() if f.suffix in {".bin", ".pt", ".pth", ".gguf"}), None)
    hint = "save it with save_pretrained(path), which writes safetensors"
    raise LoadError(f"{path} has no {_SINGLE}" + (f" (it has {other})" if other else ""), hint)


def _read_header(path: Path) -> dict[str, _Entry]:
    size = path.stat().st_size
    damaged = LoadError(f"{path} is not a safetensors file, or it is truncated", "copy it again")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_MOST_HEADER, size - 8):
            raise damaged
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            entries = {name: _entry(path, 8 + length, body) for name, body in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged from error
    for name, entry in entries.items():
        wide = _DTYPES.get(entry.dtype, np.dtype(np.uint8)).itemsize
        if entry.offset < 8 + length or entry.offset + int(np.prod(entry.shape)) * wide > size:
            raise LoadError(f"{path} is truncated: tensor {name!r} lies beyond its end", "copy it again")
    return entries


def _entry(path: Path, start: int, body: Mapping[str, Any]) -> _Entry:
    begin, end = map(int, body["data_offsets"])
    shape = tuple(int(d) for d in body["shape"])
    dtype = _DTYPES.get(body["dtype"])
    if min((begin, *shape), default=0) < 0 or (dtype and end - begin != int(np.prod(shape)) * dtype.itemsize):
        raise ValueError("an entry whose size and shape differ")
    return _Entry(path, start + begin, str(body["dtype"]), shape)
