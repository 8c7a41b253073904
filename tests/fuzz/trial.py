"""One random graph through both runtimes, in a process that may crash."""

from __future__ import annotations

import os
import pickle
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from ai_edge_litert.interpreter import Interpreter

from exporter.calibration import calibrate
from exporter.emit._slice import open_parts
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from exporter.parity.runs import compare_operators, onnx_trace
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantize import apply, make_plan
from exporter.recipe import Activations, Quantize
from exporter.reference import session

__all__ = ["Outcome", "apart", "float_trial", "integer_trial"]

_HANGS = 120  # seconds
_FORMS = {"channels first": False, "channels last": True}


@dataclass(frozen=True)
class Outcome:
    """``status``: equal | refused | different | crashed; and what was seen."""

    status: str
    seen: str = ""


def apart(work: Callable[..., Outcome], *arguments: Any) -> Outcome:
    """``work`` in a process of its own: a crash or a hang is an outcome too."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            found = work(*arguments)
        except Exception as error:
            found = Outcome("crashed", f"{type(error).__name__}: {error}")
        os.write(writer, pickle.dumps(found))
        os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], _HANGS)
    if not ready:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as pipe:
        body = pipe.read() if ready else b""
    _, status = os.waitpid(child, 0)
    if not ready:
        return Outcome("crashed", f"hung for {_HANGS} s")
    return pickle.loads(body) if body else Outcome("crashed", f"the process ended with status {status}")


def feeds_of(proto: onnx.ModelProto, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for value in proto.graph.input:
        sizes = [d.dim_value or batch for d in value.type.tensor_type.shape.dim]
        found[value.name] = rng.standard_normal(sizes).astype(np.float32)
    return found


def float_trial(data: bytes, batch: int) -> Outcome:
    """Every output within 1e-4 of the largest value, with both layouts of the inputs."""
    proto = onnx.load_from_string(data)
    model = from_proto(proto)
    feeds = feeds_of(proto, batch)
    opened = session(model, threads=1)
    names = [o.name for o in opened.get_outputs()]
    expected = dict(zip(names, opened.run(None, feeds), strict=True))
    if any(not np.isfinite(a).all() or np.abs(a).max(initial=0) > 1e6 for a in expected.values()):
        return Outcome("equal", "numbers too large to compare")
    for form, channels_last in _FORMS.items():
        for kind, graph in (("as it is", model), ("prepared", prepare(model))):
            try:
                file = emit_tflite(graph, channels_last=channels_last)
            except UnsupportedError as error:
                return Outcome("refused", str(error))
            actual = _tflite(file, feeds, channels_last=channels_last)
            for name in names:
                got = actual[name].transpose(0, 3, 1, 2) if channels_last and actual[name].ndim == 4 else actual[name]
                if got.shape != expected[name].shape:
                    return Outcome("different", f"{form}, {kind}: {name} is {got.shape}, not {expected[name].shape}")
                worst = float(np.abs(got - expected[name]).max(initial=0))
                if not worst <= 1e-4 * max(float(np.abs(expected[name]).max(initial=0)), 1e-2):
                    return Outcome("different", f"{form}, {kind}: {name} is {worst:g} off")
    return Outcome("equal")


def _tflite(file: bytes, feeds: dict[str, np.ndarray], *, channels_last: bool) -> dict[str, np.ndarray]:
    turned = {n: a.transpose(0, 2, 3, 1) if channels_last and a.ndim == 4 else a for n, a in feeds.items()}
    run = Interpreter(model_content=file, num_threads=1).get_signature_runner()
    wanted = run.get_input_details()
    found: dict[str, np.ndarray] = run(**{n: a for n, a in turned.items() if n in wanted})
    return found


def integer_trial(data: bytes, batch: int, steps: int, activations: Activations = "int8") -> Outcome:
    """Each operator of the quantized file on the integers of ONNX Runtime: at most ``steps`` apart."""
    proto = onnx.load_from_string(data)
    model = prepare(from_proto(proto), INT8_PASSES)
    stats = calibrate(model, [feeds_of(proto, batch, seed) for seed in range(4)])
    plan = make_plan(model, stats, Quantize(activations=activations))
    if not plan.tensors:
        return Outcome("equal", "nothing to quantize")
    quantized = apply(model, plan)
    try:
        file = emit_tflite(quantized, plan, channels_last=True)
    except UnsupportedError as error:
        return Outcome("refused", str(error))
    fixed = read_tflite(file)
    size = fixed.tensors[fixed.inputs[0][1]].shape[0] if fixed.inputs else 1
    samples = [feeds_of(proto, size, seed) for seed in range(3)]
    turned = [{n: a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for n, a in s.items()} for s in samples]
    if len(fixed.subgraphs) > 1:
        return Outcome("equal", "control flow")
    trace = onnx_trace(emit_onnx(quantized, plan), plan, samples)
    found, _, _ = compare_operators(open_parts(file), file, trace, turned)
    worst = max(found, key=lambda o: o.max_steps, default=None)
    if worst is not None and worst.max_steps > steps:
        where = f"{worst.code} at {worst.tensor}"
        return Outcome("different", f"{where}: {worst.max_steps} steps, {100 * worst.equal:.2f} % equal")
    return Outcome("equal")
