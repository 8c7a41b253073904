"""Where the time of an inference goes: kernels by name, what runs in float, what only moves data."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from . import children
from .errors import JobError
from .manifest import read
from .runtimes import load_runtime, open_artifact
from .worker import feeds_of, sample_arrays

__all__ = ["profile", "profiled", "summarize"]

_RUNS = 30
_WARM = 5
_BOUNDARY = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_LAYOUT = ("Transpose", "ReorderInput", "ReorderOutput", "NhwcToNchw", "NchwToNhwc")
_FLOAT = ("float", "float16", "double")


def profile(bundle: Any, options: Any, out: Any, tell: Any) -> Any:
    """Options: name (of an artifact for onnxruntime), threads. LiteRT's Python packages hold no profiler."""
    artifact = next(a for a in read(bundle)["artifacts"] if a["name"] == options["name"])
    if artifact["runtime"] != "onnxruntime":
        raise JobError("%s: the Python package of this runtime has no profiler" % artifact["name"])
    body, error = children.work(bundle, "profiled", options, tell)
    if error is not None:
        raise JobError(error)
    return body


def profiled(bundle: Any, options: Any, say: Any) -> Any:
    """The worker of ``profile``."""
    manifest = read(bundle)
    artifact = next(a for a in manifest["artifacts"] if a["name"] == options["name"])
    module, _, _ = load_runtime(artifact["runtime"])
    golden = sample_arrays(bundle, manifest["golden"])
    first = manifest["inputs"][0]["shape"][:1]
    feeds = feeds_of(manifest, golden, 0, first[0] if first and isinstance(first[0], int) else 1)
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(bundle, artifact["path"])
        session = open_artifact(module, artifact, path, options["threads"], profile=os.path.join(scratch, "p"))
        arrays = session.prepare(feeds)
        for _ in range(_WARM + _RUNS):
            session.invoke(arrays)
        with open(session.inner.end_profiling(), encoding="utf-8") as file:
            return summarize(json.load(file), _WARM)


def summarize(events: Any, skipped: int) -> Any:
    """{"runs", "total_ms", "ops", "nodes", "float_nodes", "layout_nodes"} of onnxruntime's profile, means of one run.

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
        nodes.append({"name": name, "op": row["op"], "kind": kind, "ms": sum(kept) / len(kept) / 1e3})
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
        "runs": max((len(row["us"]) for row in seen.values()), default=0) - skipped,
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
