"""What a model computes on the way: its layers, and a copy of the file that gives some of their results too."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from . import children, onnx_wire, tflite_wire
from .errors import JobError
from .manifest import read
from .runtimes import load_runtime, open_artifact
from .worker import feeds_of, sample_arrays

__all__ = ["layers", "tap", "taps"]


def taps(bundle: Any, options: Any, out: Any, tell: Any) -> Any:
    """Options: name (of the artifact); alone: {"layers"}; with values, kind, sample and batch: ``out``/taps.npz.

    The file on this device is tapped, not one that was sent for it: what differs here must show.
    """
    manifest = read(bundle)
    artifact = _artifact(manifest, options["name"])
    if "values" not in options:
        with open(os.path.join(bundle, artifact["path"]), "rb") as file:
            return {"layers": layers(artifact, file.read())}
    _, error = children.work(bundle, "tap", dict(options, out=out), tell)
    if error is not None:
        raise JobError("%s with its layers tapped: %s" % (artifact["name"], error))
    return {}


def layers(artifact: Any, data: Any) -> Any:
    """[{"value", "node", "op"}] in graph order: what can be tapped without another kernel coming to run.

    A quantized ONNX graph is tapped behind QuantizeLinear, which fuses with the operator in front of it; the layer is
    named after that operator.
    """
    if artifact["runtime"] == "tflite":
        rows = tflite_wire.operators(data)
        return [{"value": n["outputs"][0], "node": n["outputs"][0], "op": n["op"]} for n in rows if n["outputs"]]
    rows = onnx_wire.nodes(data)
    makers = {value: node for node in rows for value in node["outputs"]}
    found = []
    quantized = any(node["op"] == "QuantizeLinear" for node in rows)
    for node in rows:
        if quantized and node["op"] != "QuantizeLinear":
            continue
        maker = makers.get(node["inputs"][0], node) if quantized else node
        found.append({"value": node["outputs"][0], "node": maker["name"] or maker["outputs"][0], "op": maker["op"]})
    return found


def tap(bundle: Any, options: Any, say: Any) -> Any:
    """The worker of ``taps``: arrays "0", "1" … in the order of ``values``, as the runtime gives them."""
    manifest = read(bundle)
    artifact = _artifact(manifest, options["name"])
    with open(os.path.join(bundle, artifact["path"]), "rb") as file:
        data = file.read()
    wire = tflite_wire if artifact["runtime"] == "tflite" else onnx_wire
    path = os.path.join(options["out"], "tapped")
    with open(path, "wb") as file:
        file.write(wire.with_outputs(data, _further(wire, data, artifact, options["values"])))
    module, _, _ = load_runtime(artifact["runtime"])
    entry = manifest[options["kind"]]
    feeds = feeds_of(manifest, sample_arrays(bundle, entry), options["sample"], options["sample"] + options["batch"])
    session = open_artifact(module, artifact, path, 1, only=options["values"])
    results = session.invoke(session.prepare(feeds))
    np.savez(os.path.join(options["out"], "taps.npz"), **{str(i): array for i, array in enumerate(results)})
    os.remove(path)
    return {}


def _further(wire: Any, data: Any, artifact: Any, values: Any) -> Any:
    """Those that are no outputs yet."""
    own = {spec["name"] for spec in artifact["outputs"]} if wire is onnx_wire else set()
    return [value for value in values if value not in own]


def _artifact(manifest: Any, name: Any) -> Any:
    return next(a for a in manifest["artifacts"] if a["name"] == name)
