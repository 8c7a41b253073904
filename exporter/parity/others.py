"""The TFLite artifact in further runtimes: other kernels of LiteRT, TensorFlow, and whatever another Python has."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from exporter.errors import MissingError
from targets.check import bundle_files, quiet
from targets.transports import open_transport
from targets.types import Job, Target, TargetError

__all__ = ["further", "in_another_python", "litert"]

Array = npt.NDArray[Any]
_RESOLVERS = {
    "LiteRT without XNNPACK": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "LiteRT reference kernels": OpResolverType.BUILTIN_REF,
}


def litert(data: bytes, feeds: Sequence[Mapping[str, Array]], output: str, permutation: Sequence[int] | None) -> Array:
    """One output for all feeds, samples along axis 0, in ONNX order; LiteRT as applications get it."""
    return _signature(Interpreter(model_content=data, num_threads=1), feeds, output, permutation)


def further(
    data: bytes, feeds: Sequence[Mapping[str, Array]], output: str, permutation: Sequence[int] | None
) -> dict[str, Array]:
    """The same by name of the kernels: LiteRT's others, and TensorFlow's reference kernels where it is installed."""
    found = {}
    for name, kind in _RESOLVERS.items():
        opened = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kind)
        found[name] = _signature(opened, feeds, output, permutation)
    if importlib.util.find_spec("tensorflow") is not None:
        import tensorflow

        lite = tensorflow.lite
        kind = lite.experimental.OpResolverType.BUILTIN_REF
        opened = lite.Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kind)
        found["TensorFlow reference kernels"] = _signature(opened, feeds, output, permutation)
    return found


def _signature(
    opened: Any, feeds: Sequence[Mapping[str, Array]], output: str, permutation: Sequence[int] | None
) -> Array:
    run = opened.get_signature_runner()
    found: Array = np.concatenate([run(**f)[output] for f in feeds])
    return found if permutation is None else found.transpose(np.argsort(permutation))


def in_another_python(
    folder: Path, manifest: Mapping[str, Any], python: str, output: str, samples: int
) -> tuple[str, Array]:
    """Name and version of the TFLite runtime that another Python has, and the output that its checker computed.

    Raises MissingError when that Python is not there or has no runtime for TFLite.
    """
    target = Target("host", f"{python} on this machine", transport="local", python=python)
    kind = "evaluation" if manifest.get("evaluation") else "golden"
    try:
        with open_transport(target) as device:
            device.push(bundle_files(folder, manifest), quiet)
            options = {"samples": samples, "runtimes": ["tflite"], "latency": False, "outputs": True}
            result = device.run(Job("check", options), quiet)
            facts = result["artifacts"]["tflite"]
            if facts["errors"]:
                raise TargetError("; ".join(facts["errors"]))
            with np.load(io.BytesIO(device.pull("outputs.npz")), allow_pickle=False) as archive:
                return f"{facts['runtime_package']} {facts['runtime_version']}", archive[f"tflite/{kind}.{output}"]
    except TargetError as error:
        raise MissingError(f"--python {python}: {error}", "name a Python with numpy and a TFLite runtime") from error
