"""Run graphs on the developer's machine: the float reference and what layers say on the way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from exporter import grid
from exporter.errors import LoadError, first_line
from exporter.types import Plan, QParams, Rounded

__all__ = [
    "LayerError",
    "divergence",
    "layer_errors",
    "native_silence",
    "open_file",
    "run",
    "session",
    "with_rounded_weights",
]

ort.disable_telemetry_events()


def session(model: ir.Model, *, threads: int = 0, optimize: bool = True) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU; ``threads`` 0 lets the runtime choose."""
    return _open(ir.to_proto(model).SerializeToString(), threads, optimize)


def open_file(path: Path, *, threads: int = 0, once: bool = False) -> ort.InferenceSession:
    """The same for a file, with whatever external data lies beside it. ``once``: for one run, in the least memory."""
    return _open(str(path), threads, True, arena=not once)


def _open(source: str | bytes, threads: int, optimize: bool, *, arena: bool = True) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own C++ types
        raise LoadError(f"ONNX Runtime does not load the graph: {first_line(error)}") from error


def run(
    model: ir.Model, feeds: Mapping[str, np.ndarray], *, outputs: Sequence[str] | None = None, optimize: bool = True
) -> dict[str, np.ndarray]:
    """Outputs by name. ``outputs`` may name inner values; they are exposed on a copy of the graph."""
    if outputs is not None:
        model = model.clone()
        values = {v.name: v for node in model.graph for v in node.outputs}
        model.graph.outputs.clear()
        model.graph.outputs.extend(values[name] for name in outputs)
    opened = session(model, optimize=optimize)
    names = [o.name for o in opened.get_outputs()]
    return dict(zip(names, opened.run(None, dict(feeds)), strict=True))


def divergence(exact: np.ndarray, outputs: np.ndarray, *, classes: bool) -> float:
    """How far outputs f64[N,…] are from the float model's.

    classes  they are logits [N,classes]: the mean Kullback-Leibler divergence of the probabilities, nats; else
             sum (y - q)^2 / sum y^2
    """
    from targets.agent.sampling import log_softmax  # the checker's parts, which a conversion does not need

    if classes and exact.ndim == 2:
        p, q = log_softmax(exact), log_softmax(outputs)
        return float((np.exp(p) * (p - q)).sum(axis=1).mean())
    off = (exact - outputs).ravel()
    return float(off @ off) / max(float(exact.ravel() @ exact.ravel()), 1e-30)


@contextlib.contextmanager
def native_silence() -> Iterator[None]:
    """LiteRT announces its delegate on the process's stderr; there is no switch for it."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@dataclass(frozen=True, slots=True)
class LayerError:
    """How far the quantized graph is from the float one at a value, all errors before it included.

    sqnr_db    10 log10(sum x^2 / sum (x - q)^2), dB
    cosine     between the two, over all samples
    saturated  share of values at either end of the grid
    """

    value: str
    node: str
    op: str
    sqnr_db: float
    cosine: float
    saturated: float


def layer_errors(
    model: ir.Model, quantized: ir.Model, plan: Plan, batches: Iterable[Mapping[str, np.ndarray]]
) -> list[LayerError]:
    """One row for each quantized activation of the plan, in graph order; sums are streamed over the batches."""
    makers = {v.name: node for node in model.graph for v in node.outputs}
    present = {v.name for node in quantized.graph for v in node.outputs}
    pairs = {
        name: name if f"{name}_dequantized" not in present else f"{name}_dequantized"
        for name, tensor in plan.tensors.items()
        if tensor.role == "activation" and name in makers and {name, f"{name}_dequantized"} & present
    }
    if not pairs:  # weights alone are planned
        return []
    wide, narrow = _exposing(model, list(pairs)), _exposing(quantized, list(pairs.values()))
    sums = {name: np.zeros(6) for name in pairs}
    for batch in batches:
        feeds = dict(batch)
        reference = dict(zip(pairs, wide.run(list(pairs), feeds), strict=True))
        actual = dict(zip(pairs, narrow.run(list(pairs.values()), feeds), strict=True))
        for name in pairs:
            sums[name] += _sums(reference[name], actual[name], plan.tensors[name].qparams)
    return [_error(name, makers[name], sums[name]) for name in pairs]


def _exposing(model: ir.Model, names: Sequence[str]) -> ort.InferenceSession:
    copy = model.clone()
    values = {v.name: v for node in copy.graph for v in node.outputs}
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in dict.fromkeys(names))
    return session(copy, optimize=False)


def _sums(reference: np.ndarray, actual: np.ndarray, qparams: QParams | None) -> np.ndarray:
    x, q = reference.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
    ends = 0.0
    if qparams is not None:
        steps = np.rint(q / float(qparams.scale)) + int(qparams.zero_point)
        ends = float((steps >= qparams.scheme.qmax).mean())
        if int(qparams.zero_point) > qparams.scheme.qmin:  # behind a Relu the lower end is zero itself
            ends += float((steps <= qparams.scheme.qmin).mean())
    return np.array([x @ x, q @ q, x @ q, (x - q) @ (x - q), ends, 1.0])


def _error(name: str, node: ir.Node, sums: np.ndarray) -> LayerError:
    xx, qq, xq, ee, ends, batches = sums
    sqnr = 10 * np.log10(max(xx, 1e-30) / max(ee, 1e-30))
    cosine = xq / max(np.sqrt(xx * qq), 1e-30)
    return LayerError(
        name,
        node.name or "",
        node.op_type,
        round(float(sqnr), 3),
        round(float(cosine), 6),
        round(float(ends / batches), 6),
    )


def with_rounded_weights(model: ir.Model, rounded: Rounded) -> ir.Model:
    """The float graph with every planned weight replaced by the number that its integer stands for."""
    result = model.clone()
    for name, tensor in rounded.plan.tensors.items():
        value = result.graph.initializers.get(name)
        if value is None or value.const_value is None or tensor.role != "weight":
            continue
        if tensor.qparams is not None:
            array = grid.dequantize(rounded.integers[name], tensor.qparams)
        elif tensor.kept == "float16":
            array = value.const_value.numpy().astype(np.float16).astype(np.float32)
        else:
            continue
        value.const_value = ir.Tensor(array, name=name)
    return result
