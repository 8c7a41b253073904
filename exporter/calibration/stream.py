"""Run the float graph over the samples and watch every activation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from exporter.calibration.histogram import Histogram
from exporter.errors import DataError, LoadError, first_line
from exporter.types import TensorStats

__all__ = ["calibrate"]

ort.disable_telemetry_events()

Batch = Mapping[str, npt.NDArray[np.generic]]


def calibrate(
    model: ir.Model,
    batches: Iterable[Batch],
    *,
    values: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, TensorStats]:
    """Statistics of float32 activations by value name, from one pass in bounded memory.

    batches   model-ready arrays by input name, as ``Dataset.batches`` gives them; memory grows with the batch alone
    values    names of the activations to watch; default every float32 value that is not a constant
    progress  called with the number of samples seen so far
    Raises DataError when there is no sample, when one does not fit the model, or when a tensor turns NaN or infinite.
    """
    watched = _watched(model, values)
    session = _session(model, watched)
    fed = [v.name for v in session.get_inputs()]
    inner = [v.name for v in session.get_outputs() if v.name in watched]
    found = {name: Histogram() for name in watched}
    seen = 0
    for batch in batches:
        feeds = _feeds(batch, fed)
        for name in fed:
            if name in found:
                _add(found[name], feeds[name], name, seen)
        arrays = _run(session, inner, feeds, seen)
        while arrays:  # each array is let go before the next one is looked at
            name = inner[len(arrays) - 1]
            _add(found[name], arrays.pop(), name, seen)
        seen += len(next(iter(feeds.values())))
        if progress is not None:
            progress(seen)
    if not seen:
        raise DataError("the calibration set holds no samples", "give at least one, better a few hundred")
    return {name: h.stats() for name, h in found.items() if h.count}


def _watched(model: ir.Model, values: Sequence[str] | None) -> dict[str, ir.Value]:
    """By name, in graph order. A constant, from an initializer or a node, needs no calibration."""
    candidates = [v for v in model.graph.inputs if not v.is_initializer()]
    candidates += [v for node in model.graph if node.op_type != "Constant" for v in node.outputs]
    known = {v.name: v for v in candidates if v.name and v.dtype == ir.DataType.FLOAT}
    if values is None:
        return known
    for name in values:
        if name not in known:
            raise DataError(
                f"calibration: the graph has no float32 activation {name!r}", "calibrate the prepared graph"
            )
    wanted = set(values)
    return {name: value for name, value in known.items() if name in wanted}


def _session(model: ir.Model, watched: Mapping[str, ir.Value]) -> ort.InferenceSession:
    wide = model.clone()
    for node in wide.graph:
        for value in node.outputs:
            if value.name in watched and not value.is_graph_output():
                wide.graph.outputs.append(value)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # statistics must not depend on the number of cores
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # an arena would keep the most that any batch ever took
    options.enable_mem_pattern = False
    try:
        return ort.InferenceSession(ir.to_proto(wide).SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own C++ types
        raise LoadError(f"ONNX Runtime does not load the float graph: {first_line(error)}") from error


def _feeds(batch: Batch, names: Sequence[str]) -> Batch:
    for name in names:
        if name not in batch:
            raise DataError(f"calibration: a batch has no array {name!r}", f"it has {', '.join(batch) or 'none'}")
    return {name: np.ascontiguousarray(batch[name]) for name in names}


def _run(session: ort.InferenceSession, names: Sequence[str], feeds: Batch, seen: int) -> list[npt.NDArray[np.float32]]:
    try:
        arrays: list[npt.NDArray[np.float32]] = session.run(names, dict(feeds))
        return arrays if names else []  # without names it gives every output
    except Exception as error:
        found = f"calibration: the model does not run on the batch from sample {seen}: {first_line(error)}"
        raise DataError(found, "the samples must have the shapes and types of its inputs") from error


def _add(histogram: Histogram, array: npt.NDArray[np.generic], name: str, seen: int) -> None:
    values = np.asarray(array, np.float32)
    if not histogram.add(values):
        bad = next((i for i, sample in enumerate(values) if not np.isfinite(sample).all()), 0)
        raise DataError(
            f"calibration: tensor {name!r} turns NaN or infinite at sample {seen + bad}",
            "look at that sample, at data.preprocess and at the weights",
        )
