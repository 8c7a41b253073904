"""Any source -> one canonical ``onnx_ir.Model``: opset 21 or higher, functions inlined, constants as initializers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from exporter.errors import LoadError, MissingError
from exporter.loading.onnx_source import from_file, from_proto
from exporter.loading.shapes import set_input_shapes
from exporter.recipe import Model

if TYPE_CHECKING:
    import torch

    from exporter.loading.torch_source import Traced

__all__ = ["Loaded", "Parity", "from_file", "from_proto", "load", "load_with_parity", "set_input_shapes"]


@dataclass(frozen=True, slots=True)
class Parity:
    """The ONNX graph against torch on a seeded random input: largest absolute and relative difference."""

    max_abs: float
    max_rel: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model, and how closely it follows torch (None when the source was already ONNX)."""

    model: ir.Model
    parity: Parity | None


def load(
    source: Model | str | Path | torch.nn.Module,
    *,
    base: Path | str = ".",
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
) -> ir.Model:
    """A canonical graph from "module:callable", .pt2, .onnx, a recipe's [model] table or an ``nn.Module``.

    base            folder that relative paths start from
    example_inputs  for a Module: tensors or arrays, in order or by name; a recipe gives shapes instead
    Raises LoadError with one line for whatever cannot be loaded.
    """
    return load_with_parity(source, base=base, example_inputs=example_inputs).model


def load_with_parity(
    source: Model | str | Path | torch.nn.Module,
    *,
    base: Path | str = ".",
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Loaded:
    """``load``, and the float difference to torch where the source is torch."""
    if isinstance(source, (str, Path)):
        source = Model(str(source))
    if not isinstance(source, Model):
        torch_source = _torch_source()
        return _with_parity(torch_source.from_module(source, example_inputs, {}, seed))
    base = Path(base)
    suffix = Path(source.source).suffix.lower()
    if suffix == ".onnx":
        _refuse_checkpoint(source)
        model = from_file(base / source.source)
        set_input_shapes(model, {name: spec.shape for name, spec in source.inputs.items()})
        return Loaded(model, None)
    if suffix == ".pt2" or ":" in source.source:
        torch_source = _torch_source()
        if suffix == ".pt2":
            _refuse_checkpoint(source)
            return _with_parity(torch_source.from_exported_program(base / source.source))
        module = torch_source.build(source.source, source.checkpoint, base)
        return _with_parity(torch_source.from_module(module, example_inputs, source.inputs, seed))
    if (base / source.source / "config.json").is_file():
        found = f"model.source {source.source!r} is a checkpoint folder of a language model"
        raise LoadError(
            found, "kbit export and kbit law take those; what a setting costs them is what kbit law measures"
        )
    raise LoadError(
        f"model.source {source.source!r} is none of module:callable, .pt2, .onnx",
        "export other formats to ONNX, or name a function that builds the torch module",
    )


def _torch_source() -> ModuleType:
    try:
        from exporter.loading import torch_source
    except ImportError as error:
        raise MissingError("this model needs PyTorch, which is not installed", "pip install 'kbit[torch]'") from error
    return torch_source


def _refuse_checkpoint(source: Model) -> None:
    if source.checkpoint is not None:
        raise LoadError(
            f"model.checkpoint {source.checkpoint!r} beside {source.source!r}, which holds its own weights",
            "remove model.checkpoint",
        )


def _with_parity(traced: Traced) -> Loaded:
    from exporter.reference import run

    model = traced.model
    wanted = {i.name for i in model.graph.inputs}
    names = [str(v.name) for v in model.graph.outputs]
    worst_abs = worst_rel = 0.0
    for case in traced.cases:
        actual = run(model, {k: v for k, v in case.feeds.items() if k in wanted})
        for name, reference in zip(names, case.outputs, strict=True):
            got, expected = actual[name].astype(np.float64), reference.astype(np.float64)
            if got.shape != expected.shape:
                raise LoadError(
                    f"output {name!r} of the exported graph has shape {got.shape}, torch gives {expected.shape}",
                    "the export is wrong: try a fixed shape, or export to ONNX yourself",
                )
            difference = float(np.abs(got - expected).max(initial=0.0))
            worst_abs = max(worst_abs, difference)
            worst_rel = max(worst_rel, difference / max(float(np.abs(expected).max(initial=0.0)), 1e-12))
    return Loaded(model, Parity(worst_abs, worst_rel))
