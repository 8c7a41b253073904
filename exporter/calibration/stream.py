"""Run the float graph over the samples and watch every activation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from exporter.calibration.histogram import Histogram
from exporter.errors import DataError, LoadError
from exporter.types import TensorStats

__all__ = ["calibrate"]

ort.disable_telemetry_events()


def calibrate(
    model: ir.Model,
    batches: Iterable[Mapping[str, npt.NDArray[np.generic]]],
    *,
    values: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
    threads: int = 0,
) -> dict[str, TensorStats]:
    """Statistics of every float32 activation (or of ``values``), by value name, from one pass in bounded memory.

    batches   model-ready arrays by input name, as ``Dataset.batches`` gives them
    progress  called with the number of samples seen so far
    Raises DataError when there is no sample, or when a tensor turns NaN or infinite.
    """
    watched = _watched(model) if values is None else list(values)
    session = _session(model, watched, threads)
    fed = [v.name for v in session.get_inputs()]
    inner = [v.name for v in session.get_outputs() if v.name in set(watched)]
    found = {name: Histogram() for name in watched}
    seen = 0
    for batch in batches:
        for name in fed:
            if name in found:
                _add(found[name], np.asarray(batch[name], np.float32), name, seen)
        results = session.run(inner, {name: batch[name] for name in fed})
        while results:  # each array is let go before the next one is looked at
            name = inner[len(results) - 1]
            _add(found[name], results.pop(), name, seen)
        seen += len(next(iter(batch.values())))
        if progress is not None:
            progress(seen)
    if not seen:
        raise DataError("the calibration set holds no samples", "give at least one, better a few hundred")
    return {name: _stats(h) for name, h in found.items()}


def _watched(model: ir.Model) -> list[str]:
    names = [v.name for v in model.graph.inputs if v.dtype == ir.DataType.FLOAT]
    names += [v.name for node in model.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT]
    return [name for name in names if name]


def _session(model: ir.Model, watched: Sequence[str], threads: int) -> ort.InferenceSession:
    wide = model.clone()
    wanted = set(watched)
    for node in wide.graph:
        for value in node.outputs:
            if value.name in wanted and not value.is_graph_output():
                wide.graph.outputs.append(value)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # an arena keeps the peak of every batch
    options.enable_mem_pattern = False
    try:
        return ort.InferenceSession(ir.to_proto(wide).SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own C++ types
        raise LoadError(f"ONNX Runtime does not load the float graph: {str(error).splitlines()[0]}") from error


def _add(histogram: Histogram, array: npt.NDArray[np.float32], name: str, seen: int) -> None:
    if not histogram.add(array):
        bad = next((i for i, sample in enumerate(array) if not np.isfinite(sample).all()), 0)
        raise DataError(
            f"calibration: tensor {name!r} turns NaN or infinite at sample {seen + bad}",
            "look at that sample, at data.preprocess and at the weights",
        )


def _stats(h: Histogram) -> TensorStats:
    return TensorStats(h.low, h.high, h.count, h.counts, h.edge_low, h.edge_high)
