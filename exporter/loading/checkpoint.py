"""Weights files -> a module: .pt, .pth and .th (read with weights_only) and .safetensors."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from exporter.errors import LoadError

__all__ = ["fit", "read"]

SUFFIXES = (".pt", ".pth", ".th", ".safetensors")
_NESTS = ("state_dict", "model_state_dict", "model", "net", "weights", "params")
_WRAPPERS = ("module.", "_orig_mod.")  # DataParallel and torch.compile put these before every key
_SHOWN = 4


def fit(module: torch.nn.Module, path: Path) -> None:
    """Read a checkpoint into ``module``; LoadError names the keys and shapes that do not match."""
    given, wanted = read(path), module.state_dict()
    if not given.keys() <= wanted.keys():
        given = _unwrapped(given)
    missing = [k for k in wanted if k not in given and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in given if k not in wanted]
    if missing or unexpected:
        parts = [_some(keys, kind) for kind, keys in (("missing", missing), ("unexpected", unexpected)) if keys]
        raise LoadError(f"checkpoint {path} does not fit the module: {'; '.join(parts)}", _ARCHITECTURE)
    other = [
        f"{key} is {tuple(value.shape)}, the module has {tuple(wanted[key].shape)}"
        for key, value in given.items()
        if value.shape != wanted[key].shape
    ]
    if other:
        raise LoadError(f"checkpoint {path} does not fit the module: {_some(other, 'of another shape')}", _ARCHITECTURE)
    module.load_state_dict(given, strict=False)


_ARCHITECTURE = "is it the right architecture?"


def read(path: Path) -> dict[str, torch.Tensor]:
    """The state_dict in a file, or the one that it holds under state_dict, model_state_dict, model …"""
    if path.suffix.lower() not in SUFFIXES:
        raise LoadError(f"checkpoint {path} ends in {path.suffix or 'nothing'!r}", f"expected {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise LoadError(f"checkpoint {path} does not exist", "check model.checkpoint (relative to the recipe)")
    found = _safetensors(path) if path.suffix.lower() == ".safetensors" else _pickled(path)
    while isinstance(found, Mapping) and not _is_state(found):
        found = next((found[key] for key in _NESTS if isinstance(found.get(key), Mapping)), None)
    if not isinstance(found, Mapping) or not found:
        nests = ", ".join(_NESTS[:3])
        raise LoadError(f"checkpoint {path} holds no state_dict", f"expected tensors by name, as such or under {nests}")
    return dict(found)


def _is_state(found: Mapping[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in found.items())


def _safetensors(path: Path) -> Mapping[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        found: Mapping[str, torch.Tensor] = load_file(str(path))
    except Exception as error:
        raise LoadError(f"checkpoint {path} is not a safetensors file, or it is truncated") from error
    return found


def _pickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        blocked = re.search(r"GLOBAL (\S+) was not an allowed global", text)
        if blocked or "TorchScript" in text:
            what = blocked[1] if blocked else "TorchScript code"
            raise LoadError(
                f"checkpoint {path} is a pickle of more than weights ({what}), which could run any code when opened",
                "where you trust it, convert it: torch.save(model.state_dict(), path)",
            ) from error
        if isinstance(error, (pickle.UnpicklingError, EOFError, RuntimeError)):
            raise LoadError(f"checkpoint {path} holds no torch weights, or it is truncated", "save it again") from error
        raise LoadError(f"checkpoint {path} cannot be read: {type(error).__name__}", "save it again") from error


def _unwrapped(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for prefix in _WRAPPERS * 2:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def _some(items: Sequence[str], kind: str) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{len(items)} {kind} ({', '.join(items[:_SHOWN])}{more})"
