"""A TFLite file against the ONNX file that it came from, on one random input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import reference
from exporter.emit.tflite import CHANNELS_LAST
from exporter.errors import KbitError, LoadError, first_line

__all__ = ["compare_once", "refuse_unsound"]

_MOST = 1 << 28  # numbers in one input
_CLOSE = 1e-3  # relative; float kernels of the two runtimes are a thousand times closer
_REPORT = "this is a fault of kbit: please report it with the model; --no-verify writes the file all the same"


def compare_once(source: Path, model: ir.Model, path: Path, *, channels_last: bool) -> float | None:
    """Largest distance of the outputs, relative to the largest one; the batch is 2 where it is free.

    source, model  the ONNX file and its graph; path: the TFLite file
    None where ONNX Runtime cannot run on random numbers, or there are too many of them.
    Raises KbitError when a float file is far off.
    """
    from ai_edge_litert.interpreter import Interpreter

    feeds = _random_feeds(model)
    if feeds is None:
        return None
    session = reference.open_file(source, threads=1, once=True)
    names = [o.name for o in session.get_outputs()]
    try:
        expected = dict(zip(names, session.run(None, dict(feeds)), strict=True))
    except Exception:  # a random input need not make sense, such as indices into a table
        return None
    del session  # its weights, before the other runtime packs its own
    turned = {n: a.transpose(CHANNELS_LAST) if channels_last and a.ndim == 4 else a for n, a in feeds.items()}
    with reference.native_silence():
        run = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()
        wanted = run.get_input_details()
        actual = run(**{n: a for n, a in turned.items() if n in wanted})
    worst = 0.0
    for name in names:
        got = actual[name]
        got = got.transpose(np.argsort(CHANNELS_LAST)) if channels_last and got.ndim == 4 else got
        if got.shape != expected[name].shape:
            found = f"output {name!r} has shape {got.shape}, ONNX Runtime gives {expected[name].shape}"
            raise KbitError(f"the translation of {source} is wrong: {found}", _REPORT)
        x, y = expected[name].astype(np.float64), got.astype(np.float64)
        usable = np.isfinite(x)
        top = float(np.abs(x[usable]).max(initial=0.0))
        worst = max(worst, float(np.abs(x[usable] - y[usable]).max(initial=0.0)) / max(top, 1e-30) if top else 0.0)
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph)
    if worst > _CLOSE and not quantized:
        raise KbitError(f"the translation of {source} differs from ONNX Runtime by {worst:.2g} (relative)", _REPORT)
    return worst


def refuse_unsound(source: Path, model: ir.Model) -> None:
    """Raise LoadError when ONNX Runtime cannot run the file either."""
    session, feeds = reference.open_file(source), _random_feeds(model)
    try:
        if feeds is not None:
            session.run(None, dict(feeds))
    except Exception as error:  # onnxruntime raises its own C++ types
        raise LoadError(f"ONNX Runtime cannot run {source}: {first_line(error)}") from error


def _random_feeds(model: ir.Model) -> dict[str, npt.NDArray[Any]] | None:
    """None for inputs of more numbers than a check is worth."""
    rng = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        if value.is_initializer() or value.name is None or value.dtype is None:
            continue
        shape = [d if isinstance(d, int) else 2 for d in value.shape or ()]
        if math.prod(shape) > _MOST:
            return None
        kind = value.dtype.numpy()
        noise = rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
        feeds[value.name] = noise.astype(kind)
    return feeds
