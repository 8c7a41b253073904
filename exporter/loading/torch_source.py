"""torch modules and exported programs -> ONNX through ``torch.onnx.export(dynamo=True)``."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from exporter import user_code
from exporter.errors import LoadError
from exporter.folding import fold_constants
from exporter.loading import checkpoint as checkpoints
from exporter.loading.onnx_source import canonical, silence
from exporter.loading.opsets import OPSET
from exporter.recipe import InputSpec

__all__ = ["Case", "Traced", "build", "from_exported_program", "from_module"]

Array = npt.NDArray[np.generic]
_BATCH = 3  # a dynamic leading dimension during the export
_EXTENT = 64  # any other one: large enough for a few strides


@dataclass(frozen=True, slots=True)
class Case:
    """One run of torch: feeds by input name, outputs in order."""

    feeds: Mapping[str, Array]
    outputs: Sequence[Array]


@dataclass(frozen=True, slots=True)
class Traced:
    """The canonical graph, and what torch itself gave."""

    model: ir.Model
    cases: Sequence[Case]


@dataclass(frozen=True, slots=True)
class _Example:
    tensor: torch.Tensor
    dynamic: Mapping[int, str]  # axis -> name of the dimension


def build(source: str, checkpoint: str | None, base: Path) -> torch.nn.Module:
    """Call "module:callable" or "path/to/file.py:callable" and load the checkpoint into the module that it builds."""
    built = user_code.call(source, base, "model.source", LoadError)
    if not isinstance(built, torch.nn.Module):
        raise LoadError(f"model.source {source!r} returned {type(built).__name__}", "expected a torch.nn.Module")
    if checkpoint is not None:
        checkpoints.fit(built, base / checkpoint)
    return built


def from_module(
    module: torch.nn.Module,
    example_inputs: Any,
    specs: Mapping[str, InputSpec],
    seed: int,
) -> Traced:
    """Export in eval mode. Names in a spec's shape are dynamic dimensions; a spec's name is the graph's input name.

    example_inputs  tensors or arrays, in order or by name, in place of ``specs``. A leading dimension larger than 1
                    that all of them share is the dynamic batch; otherwise the shapes are fixed.
    """
    if not isinstance(module, torch.nn.Module):
        raise LoadError(
            f"cannot load {type(module).__name__}", "expected a path, a recipe's model or a torch.nn.Module"
        )
    examples = _examples(module, specs, seed) if example_inputs is None else _given(module, example_inputs)
    with _eval(module), torch.no_grad():
        cases = [_case(module, {name: e.tensor for name, e in examples.items()})]
        if any(0 in e.dynamic for e in examples.values()):
            cases.append(_case(module, {n: e.tensor[:1] if 0 in e.dynamic else e.tensor for n, e in examples.items()}))
        args, kwargs, shapes = _call(module, examples)
        try:
            with silence():
                program = torch.onnx.export(
                    module,
                    args,
                    kwargs=kwargs,
                    dynamo=True,
                    input_names=list(examples),
                    dynamic_shapes=shapes,
                    opset_version=OPSET,
                    optimize=False,  # its rules are not all right: see exporter.folding
                    verbose=False,
                )
        except Exception as error:
            what = f"torch cannot export {type(module).__name__} to ONNX: {user_code.innermost(error)}"
            raise LoadError(what, "make the module exportable, or export it to .pt2 or .onnx yourself") from error
    assert program is not None
    fold_constants(program.model, rounds=2)
    model = canonical(program.model, "the exported module")
    _check_dynamic(model, examples)
    return Traced(model, cases)


def from_exported_program(path: Path) -> Traced:
    """A .pt2 file of ``torch.export.save``.

    Opening one may unpickle objects and so run code that the file names: only open files that you trust.
    """
    if not path.is_file():
        raise LoadError(f"model file {path} does not exist", "check model.source (relative to the recipe)")
    try:
        with silence():
            exported = torch.export.load(str(path))
    except Exception as error:
        raise LoadError(f"{path} is not a file of torch.export.save, or it is truncated", "save it again") from error
    try:
        with silence():
            program = torch.onnx.export(exported, dynamo=True, opset_version=OPSET, optimize=False, verbose=False)
    except Exception as error:
        raise LoadError(f"torch cannot export {path} to ONNX: {user_code.innermost(error)}") from error
    assert program is not None
    fold_constants(program.model, rounds=2)
    model = canonical(program.model, str(path))
    if exported.example_inputs is None:
        return Traced(model, [])
    args, kwargs = exported.example_inputs
    tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
    names = [str(v.name) for v in model.graph.inputs]
    if len(tensors) != len(names):
        return Traced(model, [])  # nested or constant arguments: no telling which input is which
    with torch.no_grad():
        outputs = _flat(exported.module()(*args, **kwargs))
    return Traced(model, [Case({n: t.cpu().numpy() for n, t in zip(names, tensors, strict=True)}, outputs)])


def _examples(module: torch.nn.Module, specs: Mapping[str, InputSpec], seed: int) -> dict[str, _Example]:
    if not specs:
        hint = 'say what it takes: [model.inputs.NAME] shape = ["batch", …], or pass example_inputs'
        raise LoadError(f"model.inputs is missing: {type(module).__name__} does not tell its input shapes", hint)
    generator = torch.Generator().manual_seed(seed)
    examples = {}
    for name, spec in specs.items():
        dynamic = {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        bad = next((d for d in dynamic.values() if not d.isidentifier()), None)
        if bad is not None:
            raise LoadError(f"model.inputs.{name}: dimension name {bad!r}", "use letters, digits and _")
        shape = [d if isinstance(d, int) else _EXTENT if axis else _BATCH for axis, d in enumerate(spec.shape)]
        kind = getattr(torch, spec.dtype)
        if kind.is_floating_point:
            tensor = torch.randn(shape, generator=generator).to(kind)
        else:  # 0 and 1 are valid as token ids, masks and flags alike
            tensor = torch.randint(0, 2, shape, generator=generator).to(kind)
        examples[name] = _Example(tensor.to(_device(module)), dynamic)
    return examples


def _given(module: torch.nn.Module, given: Any) -> dict[str, _Example]:
    if isinstance(given, (torch.Tensor, np.ndarray)):
        given = [given]
    if not isinstance(given, Mapping):
        parameters = list(inspect.signature(module.forward).parameters)
        if len(given) > len(parameters):
            parameters = [f"input_{i}" for i in range(len(given))]  # forward(*args)
        given = dict(zip(parameters, given, strict=False))
    tensors = {}
    for name, value in given.items():
        try:
            tensors[str(name)] = torch.as_tensor(value, device=_device(module))
        except Exception as error:
            what = f"example_inputs: {name!r} is a {type(value).__name__}"
            raise LoadError(what, "expected tensors or arrays, in order or by name") from error
    if not tensors:
        raise LoadError("example_inputs is empty", "expected one tensor for each input")
    leading = {t.shape[0] if t.ndim else 1 for t in tensors.values()}
    dynamic = {0: "batch"} if len(leading) == 1 and leading != {1} else {}
    return {name: _Example(tensor, dynamic) for name, tensor in tensors.items()}


def _call(
    module: torch.nn.Module, examples: Mapping[str, _Example]
) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor], Any]:
    """By keyword where the names are the module's own, else in order; and the dynamic dimensions in the same form."""
    dims = {d: torch.export.Dim(d) for e in examples.values() for d in e.dynamic.values()}
    shapes = {n: {axis: dims[d] for axis, d in e.dynamic.items()} or None for n, e in examples.items()}
    tensors = {name: e.tensor for name, e in examples.items()}
    if _by_keyword(module, examples):
        return (), tensors, shapes if dims else None
    return tuple(tensors.values()), {}, tuple(shapes.values()) if dims else None


def _by_keyword(module: torch.nn.Module, names: Mapping[str, object]) -> bool:
    # in the module's own order only: torch.export would sort keywords so, and the names would go to the wrong inputs
    parameters = [n for n in inspect.signature(module.forward).parameters if n in names]
    return parameters == list(names)


def _case(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> Case:
    run: Callable[[], Any]
    run = (lambda: module(**tensors)) if _by_keyword(module, tensors) else (lambda: module(*tensors.values()))
    try:
        outputs = _flat(run())
    except LoadError:
        raise
    except Exception as error:
        shapes = ", ".join(
            f"{name} {list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for name, t in tensors.items()
        )
        what = f"{type(module).__name__} fails on inputs {shapes}: {user_code.innermost(error)}"
        raise LoadError(what, "check model.inputs") from error
    return Case({name: t.cpu().numpy() for name, t in tensors.items()}, outputs)


def _check_dynamic(model: ir.Model, examples: Mapping[str, _Example]) -> None:
    values = {v.name: v for v in model.graph.inputs}
    for name, example in examples.items():
        shape = values[name].shape if name in values else None
        for axis, dim in example.dynamic.items():
            if shape is None or isinstance(shape[axis], int):
                what = f"dimension {dim!r} of input {name!r} cannot stay dynamic: the module works for one size only"
                raise LoadError(what, "give it as a number")


@contextlib.contextmanager
def _eval(module: torch.nn.Module) -> Iterator[None]:
    """In eval mode; a caller's module gets its own modes back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _device(module: torch.nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def _flat(result: Any) -> list[Array]:
    """Tensors of nested tuples, lists and dicts, in the order of torch.export."""
    if result is None:
        return []
    if isinstance(result, torch.Tensor):
        if result.dtype == torch.bfloat16:
            raise LoadError("the module returns bfloat16", "call .float() on it: the runtimes have no bfloat16")
        return [result.detach().cpu().numpy()]
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        return [array for item in result for array in _flat(item)]
    raise LoadError(f"the module returns {type(result).__name__}", "expected tensors, in a tuple, list or dict")
