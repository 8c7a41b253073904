"""Where the time of an inference goes: kernels by name, what runs in float, what only moves data."""

from __future__ import annotations

import json
import os
import tempfile
import time
from typing import Any

from . import children, tflite_wire
from .errors import JobError
from .manifest import read
from .runtimes import load_runtime, open_artifact
from .worker import golden_batch

__all__ = ["profile", "profiled", "rising", "summarize"]

_RUNS = 30
_WARM = 5
_BOUNDARY = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_LAYOUT = ("Transpose", "ReorderInput", "ReorderOutput", "NhwcToNchw", "NchwToNhwc")
_FLOAT = ("float", "float16", "double")
_TFLITE_BOUNDARY = ("QUANTIZE", "DEQUANTIZE")
_TFLITE_LAYOUT = ("TRANSPOSE", "RESHAPE", "EXPAND_DIMS", "SQUEEZE")
_PREFIXES_S = 10.0  # for all prefixes together, more or less


def profile(bundle: Any, options: Any, out: Any, tell: Any) -> Any:
    """Options: name (of an artifact), threads. From onnxruntime's profiler; LiteRT's Python package holds none, so its
    operators are timed by prefixes: the model cut behind each of them, and the differences.
    """
    body, error = children.work(bundle, "profiled", options, tell)
    if error is not None:
        raise JobError(error)
    return body


def profiled(bundle: Any, options: Any, say: Any) -> Any:
    """The worker of ``profile``."""
    manifest = read(bundle)
    artifact = next(a for a in manifest["artifacts"] if a["name"] == options["name"])
    module, _, _ = load_runtime(artifact["runtime"])
    feeds = golden_batch(bundle, manifest)
    path = os.path.join(bundle, artifact["path"])
    if artifact["runtime"] == "tflite":
        return _by_prefixes(module, artifact, path, options["threads"], feeds, say)
    with tempfile.TemporaryDirectory() as scratch:
        session = open_artifact(module, artifact, path, options["threads"], profile=os.path.join(scratch, "p"))
        arrays = session.prepare(feeds)
        for _ in range(_WARM + _RUNS):
            session.invoke(arrays)
        with open(session.inner.end_profiling(), encoding="utf-8") as file:
            return summarize(json.load(file), _WARM)


def _by_prefixes(module: Any, artifact: Any, path: Any, threads: Any, feeds: Any, say: Any) -> Any:
    """As ``summarize``; an operator's time is what the model takes with it less what it takes without it."""
    with open(path, "rb") as file:
        data = file.read()
    operators = tflite_wire.operators(data)
    whole = open_artifact(module, artifact, path, threads)
    arrays = whole.prepare(feeds)
    types = {d["name"]: d["dtype"].__name__ for d in whole.inner.get_tensor_details()}
    runs = int(min(_RUNS, max(5, _PREFIXES_S / (_timed(whole.inner, 3) * len(operators) + 1e-9))))
    whole = None
    ends = []
    for count in range(1, len(operators) + 1):
        interpreter = module.Interpreter(model_content=tflite_wire.shortened(data, count), num_threads=threads)
        interpreter.allocate_tensors()
        for place, array in zip([d["index"] for d in interpreter.get_input_details()], arrays):
            interpreter.set_tensor(place, array)
        _timed(interpreter, 2)
        ends.append(_timed(interpreter, runs))
        say({"progress": "profile %s" % artifact["name"], "done": count, "total": len(operators)})
    smooth = rising(ends)
    nodes = []
    for row, end, start in zip(operators, smooth, [0.0, *smooth[:-1]]):
        kind = _tflite_kind(row["op"], [types.get(name, "") for name in row["inputs"]])
        nodes.append({"name": row["outputs"][0], "op": row["op"], "kind": kind, "ms": (end - start) * 1e3})
    return dict(_added_up(nodes), runs=runs, method="prefixes")


def _timed(interpreter: Any, runs: Any) -> float:
    """Median seconds of one run."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def rising(values: Any) -> Any:
    """The closest series that never falls, by squares: neighbours that do are averaged (pool adjacent violators)."""
    pools: Any = []
    for value in values:
        pools.append([value, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (late, many), (early, few) = pools.pop(), pools.pop()
            pools.append([(late * many + early * few) / (many + few), many + few])
    return [value for value, count in pools for _ in range(count)]


def summarize(events: Any, skipped: int) -> Any:
    """{"runs", "method", "total_ms", "ops", "nodes", "float_nodes", "layout_nodes"} of onnxruntime's profile, medians.

    ops          by kernel: op, kind ("float", "layout", "boundary" of quantization, "integer"), count, ms, share
    nodes        the ten that take longest: name, op, kind, ms, share
    float_nodes, layout_nodes  the names of all of a kind, with ms; float only where other nodes run in integers
    skipped      runs at the start that are left out
    """
    seen: Any = {}
    for event in events:
        if event.get("cat") != "Node" or not event.get("name", "").endswith("_kernel_time"):
            continue
        arguments = event["args"]
        name = event["name"][: -len("_kernel_time")]
        row = seen.setdefault(
            (arguments.get("node_index"), name), {"op": arguments["op_name"], "us": [], "types": arguments}
        )
        row["us"].append(event["dur"])
    nodes = []
    for (_, name), row in seen.items():
        kept = row["us"][skipped:] or row["us"]
        kind = _kind(row["op"], row["types"].get("input_type_shape") or [])
        nodes.append({"name": name, "op": row["op"], "kind": kind, "ms": sorted(kept)[len(kept) // 2] / 1e3})
    runs = max((len(row["us"]) for row in seen.values()), default=0) - skipped
    return dict(_added_up(nodes), runs=runs, method="profiler")


def _added_up(nodes: Any) -> Any:
    total = sum(node["ms"] for node in nodes) or 1e-9
    for node in nodes:
        node["share"] = round(node["ms"] / total, 4)
        node["ms"] = round(node["ms"], 6)
    ops: Any = {}
    for node in nodes:
        entry = ops.setdefault(
            (node["op"], node["kind"]), {"op": node["op"], "kind": node["kind"], "count": 0, "ms": 0.0}
        )
        entry["count"] += 1
        entry["ms"] += node["ms"]
    quantized = any(node["kind"] in ("integer", "boundary") for node in nodes)
    nodes.sort(key=lambda node: -node["ms"])
    return {
        "total_ms": round(total, 6),
        "ops": [
            dict(e, ms=round(e["ms"], 6), share=round(e["ms"] / total, 4))
            for e in sorted(ops.values(), key=lambda e: -e["ms"])
        ],
        "nodes": nodes[:10],
        "float_nodes": [
            {"name": n["name"], "op": n["op"], "ms": n["ms"]} for n in nodes if quantized and n["kind"] == "float"
        ],
        "layout_nodes": [{"name": n["name"], "op": n["op"], "ms": n["ms"]} for n in nodes if n["kind"] == "layout"],
    }


def _kind(op: Any, inputs: Any) -> str:
    if op in _BOUNDARY:
        return "boundary"
    if op in _LAYOUT:
        return "layout"
    if op.startswith("QLinear") or op.endswith("Integer") or op == "QGemm":
        return "integer"
    first = next(iter(inputs[0]), "") if inputs and isinstance(inputs[0], dict) else ""
    return "float" if first in _FLOAT else "integer"


def _tflite_kind(op: Any, inputs: Any) -> str:
    if op in _TFLITE_BOUNDARY:
        return "boundary"
    if op in _TFLITE_LAYOUT:
        return "layout"
    return "float" if inputs and inputs[0].startswith("float") else "integer"
