"""torch modules and exported programs -> ONNX through ``torch.onnx.export(dynamo=True)``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir

from exporter.errors import LoadError, MissingError
from exporter.loading.onnx_source import OPSET, canonical, silence
from exporter.recipe import InputSpec

try:
    import torch
except ImportError as error:  # pragma: no cover - the message is the point
    raise MissingError("this model needs PyTorch, which is not installed", "pip install 'kbit[torch]'") from error

__all__ = ["build", "from_exported_program", "from_module", "read_checkpoint"]

_Traced = tuple[ir.Model, dict[str, np.ndarray], list[np.ndarray]]
_NESTS = ("state_dict", "model_state_dict", "model", "net", "weights", "params")
_SHOWN = 4


def build(source: str, checkpoint: str | None, base: Path) -> torch.nn.Module:
    """Call "module:callable" or "file.py:callable" and load the checkpoint into what it returns."""
    name, _, attribute = source.rpartition(":")
    module = _import(name, base, source)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        close = difflib.get_close_matches(attribute, [n for n in dir(module) if not n.startswith("_")], 3)
        hint = f"did you mean {', '.join(close)}?" if close else "check model.source"
        raise LoadError(f"model.source: {name} has no callable {attribute!r}", hint)
    try:
        built = factory()
    except Exception as error:
        raise LoadError(f"model.source: {source}() failed: {_line(error)}", "it is called without arguments") from error
    if not isinstance(built, torch.nn.Module):
        raise LoadError(f"model.source: {source}() returned {type(built).__name__}", "expected a torch.nn.Module")
    if checkpoint is not None:
        _load_weights(built, base / checkpoint)
    return built.eval()


def _import(name: str, base: Path, source: str) -> ModuleType:
    path = base / (name if name.endswith(".py") else f"{name.replace('.', '/')}.py")
    sys.path.insert(0, str(base.resolve()))
    try:
        if path.is_file():
            spec = importlib.util.spec_from_file_location(f"_kbit_source_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        return importlib.import_module(name)
    except Exception as error:
        raise LoadError(f"model.source {source!r}: cannot import {name!r}: {_line(error)}") from error
    finally:
        sys.path.remove(str(base.resolve()))


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The state_dict of a .pt, .pth, .th or .safetensors file, "module." prefixes stripped; weights only."""
    if not path.is_file():
        raise LoadError(f"checkpoint {path} does not exist", "check model.checkpoint (relative to the recipe)")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            found: Any = load_file(str(path))
        except Exception as error:
            raise LoadError(f"checkpoint {path} is not a safetensors file, or it is truncated") from error
    else:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise LoadError(
                f"checkpoint {path} holds more than weights, and running its code is not safe",
                "save it again with torch.save(model.state_dict(), path)",
            ) from error
        except Exception as error:
            raise LoadError(f"checkpoint {path} cannot be read: {_line(error)}", "is it complete?") from error
    while isinstance(found, Mapping) and not all(isinstance(v, torch.Tensor) for v in found.values()):
        inner = next((found[key] for key in _NESTS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise LoadError(
            f"checkpoint {path} holds no state_dict", f"expected tensors by name, or one under {_NESTS[0]!r}"
        )
    strip = all(key.startswith("module.") for key in found)
    return {key.removeprefix("module.") if strip else key: value for key, value in found.items()}


def _load_weights(module: torch.nn.Module, path: Path) -> None:
    given, wanted = read_checkpoint(path), module.state_dict()
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = [k for k in wanted if k not in given and k not in optional]
    unexpected = [k for k in given if k not in wanted]
    if missing or unexpected:
        parts = [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in
                 (("missing", missing), ("unexpected", unexpected)) if keys]  # fmt: skip
        raise LoadError(
            f"checkpoint {path} does not fit the module: {', '.join(parts)}", "is it the right architecture?"
        )
    for key, value in given.items():
        if value.shape != wanted[key].shape:
            raise LoadError(
                f"checkpoint {path}: {key} has shape {tuple(value.shape)}, the module has {tuple(wanted[key].shape)}",
                "is it the right architecture?",
            )
    module.load_state_dict(given, strict=False)


def _some(keys: Sequence[str]) -> str:
    more = f", and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def from_module(
    module: torch.nn.Module,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None,
    specs: Mapping[str, InputSpec],
    seed: int,
) -> _Traced:
    """Export; names in a spec's shape are dynamic dimensions. Returns graph, the feeds used, torch's outputs."""
    module = module.eval()
    named, dynamic = _examples(module, example_inputs, specs, seed)
    tensors = tuple(named.values())
    with torch.no_grad():
        try:
            expected = _flat(module(*tensors))
        except Exception as error:
            shapes = ", ".join(f"{k}{list(v.shape)}" for k, v in named.items())
            raise LoadError(f"the module fails on inputs {shapes}: {_line(error)}", "check model.inputs") from error
        try:
            with silence():
                program = torch.onnx.export(
                    module,
                    tensors,
                    dynamo=True,
                    input_names=list(named),
                    dynamic_shapes=tuple(dynamic) if any(dynamic) else None,
                    opset_version=OPSET,
                    verbose=False,
                )
        except Exception as error:
            raise LoadError(
                f"torch cannot export the module to ONNX: {_cause(error)}", "export it to .pt2 or .onnx and use that"
            ) from error
    assert program is not None
    feeds = {name: tensor.numpy() for name, tensor in named.items()}
    return canonical(program.model, "the exported module"), feeds, expected


def from_exported_program(path: Path) -> _Traced:
    """A .pt2 file. Loading one may run code that it names: only use files that you trust."""
    if not path.is_file():
        raise LoadError(f"model file {path} does not exist", "check model.source (relative to the recipe)")
    try:
        with silence():
            exported = torch.export.load(str(path))
            program = torch.onnx.export(exported, dynamo=True, opset_version=OPSET, verbose=False)
    except Exception as error:
        raise LoadError(
            f"{path} is not a torch.export program that torch can write as ONNX: {_cause(error)}"
        ) from error
    assert program is not None
    model = canonical(program.model, str(path))
    arguments, _ = exported.example_inputs or ((), {})
    with torch.no_grad():
        expected = _flat(exported.module()(*arguments))
    names = [str(v.name) for v in model.graph.inputs]
    feeds = {n: t.numpy() for n, t in zip(names, [a for a in arguments if isinstance(a, torch.Tensor)], strict=True)}
    return model, feeds, expected


def _examples(
    module: torch.nn.Module,
    given: Sequence[Any] | Mapping[str, Any] | None,
    specs: Mapping[str, InputSpec],
    seed: int,
) -> tuple[dict[str, torch.Tensor], list[dict[int, Any] | None]]:
    if given is not None:
        parameters = _parameters(module)
        if isinstance(given, torch.Tensor | np.ndarray):
            given = [given]
        pairs = given.items() if isinstance(given, Mapping) else zip(parameters, given, strict=False)
        named = {name: torch.as_tensor(value) for name, value in pairs}
        # the leading dimension of every input is the batch, as everywhere in kbit
        return named, [{0: torch.export.Dim("batch")} if t.ndim and t.shape[0] > 1 else None for t in named.values()]
    if not specs:
        raise LoadError("model.inputs is missing", 'a torch module needs it: [model.inputs.NAME] shape = ["batch", …]')
    generator = torch.Generator().manual_seed(seed)
    dims: dict[str, Any] = {}
    named, dynamic = {}, []
    for name, spec in specs.items():
        shape, axes = [], {}
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str):
                axes[axis] = dims.setdefault(size, torch.export.Dim(size))
            shape.append(3 if isinstance(size, str) else size)
        named[name] = _random(shape, spec.dtype, generator)
        dynamic.append(axes or None)
    return named, dynamic


def _random(shape: Sequence[int], dtype: str, generator: torch.Generator) -> torch.Tensor:
    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return torch.randn(*shape, generator=generator).to(kind)
    return torch.randint(0, 2, tuple(shape), generator=generator).to(kind)


def _parameters(module: torch.nn.Module) -> list[str]:
    import inspect

    return list(inspect.signature(module.forward).parameters)


def _flat(result: Any) -> list[np.ndarray]:
    if isinstance(result, torch.Tensor):
        return [result.detach().numpy()]
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, Sequence):
        return [array for item in result for array in _flat(item)]
    raise LoadError(f"the module returns {type(result).__name__}", "expected tensors")


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return _line(error)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
