"""Run graphs on the developer's machine: the float reference and what layers say on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from exporter.errors import LoadError

__all__ = ["run", "session"]

ort.disable_telemetry_events()


def session(model: ir.Model, *, threads: int = 0, optimize: bool = True) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU; ``threads`` 0 lets the runtime choose."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        body = ir.to_proto(model).SerializeToString()
        return ort.InferenceSession(body, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own C++ types
        line = str(error).strip().splitlines()[0]
        raise LoadError(f"ONNX Runtime does not load the graph: {line}") from error


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
