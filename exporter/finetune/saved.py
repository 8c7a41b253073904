"""The checkpoint of a training: one file, written whole or not at all, read with weights_only."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exporter.errors import DataError
from exporter.files import replacing, writing

__all__ = ["State", "read", "write"]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """fingerprint: of model, data and wishes; history: rows of Epoch; kept: parameters of the best epoch."""

    fingerprint: str
    history: list[tuple[int, float | None, float | None, float | None]] = field(default_factory=list)
    best: int = 0
    kept: list[Tensor] = field(default_factory=list)
    parameters: list[Tensor] = field(default_factory=list)
    optimizer: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fresh(cls, fingerprint: str) -> State:
        return cls(fingerprint)


def write(path: Path, state: State) -> None:
    """Raises KbitError when the file cannot be written."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    body = io.BytesIO()  # torch.save itself says RuntimeError on a full disk
    torch.save({name: getattr(state, name) for name in State.__slots__}, body)
    with replacing(path) as partial:
        partial.write_bytes(body.getbuffer())


def read(path: Path, fresh: State) -> State:
    """Where the file left off; ``fresh`` when there is no such file.

    Raises DataError for a file that is no checkpoint, or one of another run.
    """
    if not path.exists():
        return fresh
    again = "remove it to train anew, or name another finetune.checkpoint"
    try:
        body = torch.load(path, map_location="cpu", weights_only=True)
        found = State(**body)
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path} is not a checkpoint of a fine-tuning", again) from error
    if found.fingerprint != fresh.fingerprint:
        raise DataError(f"{path} is the checkpoint of another model, data set or recipe", again)
    return found
