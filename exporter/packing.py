"""From emitted files to the contents of a bundle: tensor specs, golden samples, texts, versions."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from exporter import bundle as bundles
from exporter.bundle import Artifact, TensorSpec
from exporter.data import Dataset, fixed_batch
from exporter.emit.tflite import CHANNELS_LAST
from exporter.recipe import InputSpec, Recipe, to_dict, to_toml
from exporter.reference import native_silence
from exporter.types import Plan, TensorStats
from targets.agent import preprocess, runtimes

__all__ = ["artifacts", "golden", "histogram", "onnx_bytes", "pack", "versions"]

_FILES = {"float": "float.onnx", "onnxruntime": "model.onnx", "tflite": "model.tflite"}
_PACKAGES = ("kbit", "numpy", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "ai-edge-litert", "torch", "transformers")
_BINS = 128


def onnx_bytes(model: ir.Model, *, lean: bool = False) -> bytes:
    """The graph as an ONNX file, the same bytes every time.

    lean: without types and shapes of inner values, which ONNX Runtime infers at load: 5 to 9 % of a small int8 file
    """
    proto = ir.to_proto(model)
    if lean:
        del proto.graph.value_info[:]
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def artifacts(
    files: Mapping[str, bytes], model: ir.Model, quantized: ir.Model, plan: Plan, *, channels_last: bool
) -> list[Artifact]:
    """One Artifact for each emitted file, with its inputs and outputs as that file has them."""
    found = []
    for name, data in files.items():
        graph = model.graph if name == "float" else quantized.graph
        turned = channels_last and name == "tflite"
        inputs = tuple(_spec(v, plan, turned) for v in graph.inputs if not v.is_initializer())
        outputs = tuple(_spec(v, plan, turned) for v in graph.outputs)
        runtime = "tflite" if name == "tflite" else "onnxruntime"
        role = "reference" if name == "float" else "candidate"
        found.append(Artifact(name, runtime, role, _FILES[name], data, inputs, outputs))
    return found


def _spec(value: ir.Value, plan: Plan, turned: bool) -> TensorSpec:
    assert value.name is not None
    assert value.dtype is not None
    shape: tuple[int | str, ...] = tuple(d if isinstance(d, int) else str(d) for d in value.shape or ())
    permutation = CHANNELS_LAST if turned and len(shape) == 4 else None
    if permutation is not None:
        shape = tuple(shape[axis] for axis in permutation)
    scale = zero_point = None
    tensor = plan.tensors.get(value.name)
    if value.dtype in {ir.DataType.INT8, ir.DataType.INT16} and tensor is not None and tensor.qparams is not None:
        scale, zero_point = float(tensor.qparams.scale), int(tensor.qparams.zero_point)
    return TensorSpec(value.name, value.dtype.numpy().name, shape, permutation, scale, zero_point)


def golden(
    made: Sequence[Artifact], inputs: Mapping[str, InputSpec], recipe: Recipe, samples: Dataset | None, count: int
) -> dict[str, np.ndarray]:
    """Some raw samples and what each artifact gives for them on this machine."""
    raw = _random(inputs, recipe.seed) if samples is None else {n: a[:count] for n, a in samples.raw().items()}
    specs = {name: to_dict(value) for name, value in recipe.data.preprocess.items()}
    found = {f"input.{name}": array for name, array in raw.items()}
    many = len(next(iter(raw.values())))
    with tempfile.TemporaryDirectory() as scratch, native_silence():
        for artifact in made:
            path = Path(scratch) / artifact.path
            assert isinstance(artifact.data, bytes)
            path.write_bytes(artifact.data)
            module, _, _ = runtimes.load_runtime(artifact.runtime)
            session = runtimes.open_artifact(module, asdict(artifact), path, 1)
            size = fixed_batch(inputs) or 1
            rows: list[list[np.ndarray]] = [[] for _ in artifact.outputs]
            for start in range(0, many - many % size, size):
                feeds = {n: _ready(a[start : start + size], inputs[n], specs.get(n)) for n, a in raw.items()}
                for row, result in zip(rows, session.run(feeds), strict=True):
                    row.append(result)
            for spec, parts in zip(artifact.outputs, rows, strict=True):
                if parts:
                    found[f"expected.{artifact.name}.{spec.name}"] = np.concatenate(parts)
    return found


def _ready(raw: np.ndarray, spec: InputSpec, wish: Any) -> np.ndarray:
    ready: np.ndarray = preprocess.apply(raw, wish, spec.shape) if spec.dtype == "float32" else raw.astype(spec.dtype)
    return ready


def _random(inputs: Mapping[str, InputSpec], seed: int) -> dict[str, np.ndarray]:
    """Without any data: one seeded batch of noise, so that the artifacts can be compared at all."""
    generator = np.random.default_rng(seed)
    found = {}
    for name, spec in inputs.items():
        shape = [d if isinstance(d, int) else 1 for d in spec.shape]
        noise = generator.standard_normal(shape) if spec.dtype.startswith("float") else generator.integers(0, 2, shape)
        found[name] = noise.astype(spec.dtype)
    return found


def pack(
    out: Path,
    recipe: Recipe,
    inputs: Mapping[str, InputSpec],
    made: Sequence[Artifact],
    samples: Mapping[str, np.ndarray],
    evaluation: Dataset | None,
    model: ir.Model,
    plan: Plan,
) -> bundles.Bundle:
    """Write the bundle."""
    specs = {name: to_dict(value) for name, value in recipe.data.preprocess.items()}
    packed = None
    if evaluation is not None and evaluation.labels is not None:
        packed = {f"input.{name}": array for name, array in evaluation.raw().items()} | {"labels": evaluation.labels}
    return bundles.package(
        out,
        name=recipe.name or Path(recipe.model.source.rpartition(":")[2] or recipe.model.source).stem,
        artifacts=made,
        inputs=[
            {"name": n, "dtype": s.dtype, "shape": list(s.shape), "preprocess": specs.get(n)} for n, s in inputs.items()
        ],
        outputs=[_output(v, plan) for v in model.graph.outputs],
        golden=samples,
        evaluation=packed,
        metric=recipe.data.metric,
        texts={"plan.json": plan.to_json(), "recipe.toml": to_toml(recipe)},
        gates=to_dict(recipe.gates),
        recipe=to_dict(recipe),
        float_nodes=plan.float_nodes,
        versions=versions(),
    )


def _output(value: ir.Value, plan: Plan) -> dict[str, Any]:
    assert value.dtype is not None
    tensor = plan.tensors.get(value.name or "")
    scale = None if tensor is None or tensor.qparams is None else float(tensor.qparams.scale)
    shape = [d if isinstance(d, int) else str(d) for d in value.shape or ()]
    return {"name": value.name, "dtype": value.dtype.numpy().name, "shape": shape, "scale": scale}


def versions() -> dict[str, str]:
    """Of every package that has a part in what is made."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def histogram(name: str, stats: TensorStats, plan: Plan) -> dict[str, Any]:
    """Counts of what calibration saw, and the range that the grid covers."""
    q = plan.tensors[name].qparams
    assert q is not None
    counts = stats.histogram.reshape(_BINS, -1).sum(axis=1) if len(stats.histogram) % _BINS == 0 else stats.histogram
    scale, zero = float(q.scale), int(q.zero_point)
    return {
        "value": name,
        "counts": counts.tolist(),
        "edge_low": stats.edge_low,
        "edge_high": stats.edge_high,
        "range_low": (q.scheme.qmin - zero) * scale,
        "range_high": (q.scheme.qmax - zero) * scale,
        "scale": scale,
        "zero_point": zero,
    }
