"""From an open decoder and the recipe's wishes to files: plan once, round once, write a file for each runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.content import Content
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import translate
from exporter.lm.last import keep_last
from exporter.lm.parity import dynamic_feeds
from exporter.lm.source import Decoder
from exporter.quantization import round_planned
from exporter.quantize import apply, make_plan
from exporter.recipe import Quantize
from exporter.types import Plan, Rounded

__all__ = ["batches_of", "emit", "round_decoder", "static_models", "tflite_content", "write_onnx"]

_INLINE = 1 << 28  # bytes of weights up to which an ONNX file holds them itself
Progress = Callable[[int, int], None]


def batches_of(decoder: Decoder, tokens: npt.NDArray[np.int32]) -> Callable[[], Iterable[Mapping[str, Any]]]:
    """Feeds of the dynamic graph for each calibration window, anew each time it is called."""
    return lambda: (dynamic_feeds(decoder.plan, row[None].astype(np.int64)) for row in tokens)


def round_decoder(
    decoder: Decoder,
    model: ir.Model,
    quantize: Quantize,
    tokens: npt.NDArray[np.int32] | None,
    *,
    progress: Progress = lambda done, total: None,
    seed: int = 0,
) -> Rounded:
    """Plan and integers of every weight; ``model`` is the float graph, ``tokens`` the calibration windows."""
    if quantize.weights == "float" and not quantize.override:
        return Rounded(Plan({}), {})
    plan = make_plan(model, {}, quantize, samples=tokens is not None)
    batches = None if tokens is None else batches_of(decoder, tokens)
    return round_planned(model, plan, quantize, batches, progress=progress, seed=seed)


def static_models(decoder: Decoder, lengths: Sequence[int]) -> dict[str, ir.Model]:
    """Float graphs by signature, decode first: runtimes open the first subgraph without naming it."""
    models = {"decode": decoder.static(1)}
    for n in sorted(set(lengths)):
        models |= {f"prefill_{n}": decoder.static(n, head=False), f"head_{n}": decoder.head(n)}
    return models


def tflite_content(models: Mapping[str, ir.Model], rounded: Rounded) -> Content:
    """One file with a signature for each graph; weights are stored once.

    The plan was made for the dynamic graph: nodes that do the same have the same name in all of them.
    """
    quantized = {key: apply(model, _within(rounded, model)) for key, model in models.items()}
    _share(quantized.values())
    return translate(quantized, rounded.plan)


def _within(rounded: Rounded, model: ir.Model) -> Rounded:
    """What there is of it in a part of the model."""
    there = {n: t for n, t in rounded.plan.tensors.items() if n in model.graph.initializers}
    biases = {n: b for n, b in rounded.biases.items() if n in model.graph.initializers}
    return Rounded(replace(rounded.plan, tensors=there), rounded.integers, biases)


def _share(models: Iterable[ir.Model]) -> None:
    """Constants of one name and shape are the same array in all graphs: the emitter knows equal ones by that."""
    known: dict[tuple[str, ...], ir.TensorProtocol] = {}
    for model in models:
        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            assert tensor is not None
            key = name, str(tensor.shape)
            if key not in known:
                known[key] = ir.Tensor(tensor.numpy(), name=name)
            value.const_value = known[key]


def write_onnx(model: ir.Model, path: Path, *, progress: Progress | None = None) -> list[Path]:
    """Write a graph, tensor by tensor; large weights lie beside it in PATH.data. Returns the files."""
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    if size <= _INLINE:
        path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
        return [path]
    data = path.with_name(path.name + ".data")

    def tell(_: ir.TensorProtocol, info: Any) -> None:
        if progress is not None:
            progress(info.index, info.total)

    ir.save(model, path, external_data=data.name, size_threshold_bytes=1024, callback=tell)
    return [path, data]


def emit(model: ir.Model, rounded: Rounded) -> ir.Model:
    """The quantized graph for ONNX Runtime."""
    return keep_last(emit_onnx(apply(model, rounded), rounded.plan))
