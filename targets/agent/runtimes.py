"""Open an artifact in the runtime it is made for, whichever package of it is installed."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np

__all__ = ["MissingRuntime", "Session", "load_runtime", "open_artifact"]


class MissingRuntime(Exception):
    """The runtime is not installed, or is of an unknown kind."""


class Session:
    """``run(feeds)`` takes model-ready arrays in ONNX order by input name and gives outputs in ONNX order.

    inner  the runtime's own object
    """

    def __init__(self, artifact: Any, invoke: Any, inner: Any) -> None:
        self._artifact, self._invoke, self.inner = artifact, invoke, inner

    def prepare(self, feeds: Any) -> Any:
        """Arrays as the artifact takes them: permuted, quantized, contiguous."""
        return [_to_artifact(feeds[spec["name"]], spec) for spec in self._artifact["inputs"]]

    def invoke(self, arrays: Any) -> Any:
        """The bare run: what latency measures."""
        return self._invoke(arrays)

    def run(self, feeds: Any) -> Any:
        results = self._invoke(self.prepare(feeds))
        return [_from_artifact(a, spec) for a, spec in zip(results, self._artifact["outputs"])]


def _to_artifact(array: Any, spec: Any) -> Any:
    if spec.get("permutation"):
        array = np.transpose(array, spec["permutation"])
    if spec.get("scale"):
        steps = np.rint(array / np.float32(spec["scale"])) + spec["zero_point"]
        limits = np.iinfo(spec["dtype"])
        array = np.clip(steps, limits.min, limits.max)
    return np.ascontiguousarray(array, np.dtype(spec["dtype"]))


def _from_artifact(array: Any, spec: Any) -> Any:
    if spec.get("permutation"):
        array = np.transpose(array, np.argsort(spec["permutation"]))
    if spec.get("scale"):
        array = (array.astype(np.float32) - spec["zero_point"]) * np.float32(spec["scale"])
    return array


def load_runtime(name: Any) -> Any:
    """(module, package name, version); raises MissingRuntime."""
    if name == "onnxruntime":
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        packages = ["onnxruntime"]
    elif name == "tflite":
        packages = ["ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow"]
    else:
        raise MissingRuntime("unknown runtime %r; this checker knows onnxruntime and tflite" % name)
    problems = []
    for package in packages:
        try:
            module: Any = importlib.import_module(package)
        except ImportError as error:
            problems.append("%s (%s)" % (package.split(".")[0], error))
            continue
        top = package.split(".", maxsplit=1)[0]
        if top == "onnxruntime":
            module.disable_telemetry_events()
            return module, top, module.__version__
        return (module.lite if top == "tensorflow" else module), top, _version(top)
    raise MissingRuntime("no package for runtime %r: %s; pip install one of them" % (name, ", ".join(problems)))


def _version(package: Any) -> str:
    from importlib import metadata

    for name in (package, package.replace("_", "-"), "tensorflow-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def open_artifact(module: Any, artifact: Any, path: Any, threads: Any, only: Any = None, profile: Any = "") -> Any:
    """A Session over the file; the runtime's own exceptions pass through.

    only     names of values that ``invoke`` gives instead of the outputs; the file must have them as outputs
    profile  onnxruntime writes its profile to a file whose name starts so, when ``close`` is called
    """
    if artifact["runtime"] == "onnxruntime":
        options = module.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        session = module.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [i["name"] for i in artifact["inputs"]]
        return Session(artifact, lambda arrays: session.run(only, dict(zip(names, arrays))), session)
    interpreter = module.Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    places = [d["index"] for d in interpreter.get_input_details()]
    details = interpreter.get_output_details()
    results = [d["index"] for d in details if only is None or d["name"] in only]
    if only is not None:
        results.sort(key=lambda index: only.index(next(d["name"] for d in details if d["index"] == index)))

    def invoke(arrays: Any) -> Any:
        for place, array in zip(places, arrays):
            interpreter.set_tensor(place, array)
        interpreter.invoke()
        return [interpreter.get_tensor(place) for place in results]

    return Session(artifact, invoke, interpreter)
