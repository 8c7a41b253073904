"""What each width buys on a device: small models of one operator, run there, as rows of its capabilities."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from exporter import pipeline
from exporter.pipeline import Progress
from targets import check, get_target
from targets.bench import Wish, bench
from targets.capabilities import Capability, gains, save

__all__ = ["probe"]

_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class _Probe:
    """One operator, so large that its arithmetic outweighs the call.

    shape, weight, gives  shapes of its input, its weight and its output (that one without the batch)
    """

    op: str
    text: str
    shape: tuple[int, ...]
    weight: tuple[int, ...]
    gives: str


_PROBES = (
    _Probe("Conv 3x3", "y = Conv<pads=[1,1,1,1]>(x, w)", (1, 32, 28, 28), (32, 32, 3, 3), "32,28,28"),
    _Probe("Conv 1x1", "y = Conv(x, w)", (1, 64, 28, 28), (64, 64, 1, 1), "64,28,28"),
    _Probe(
        "Conv depthwise 3x3", "y = Conv<pads=[1,1,1,1], group=64>(x, w)", (1, 64, 28, 28), (64, 1, 3, 3), "64,28,28"
    ),
    _Probe("MatMul 512", "y = MatMul(x, w)", (1, 512), (512, 512), "512"),
)


def probe(name: str, progress: Progress) -> tuple[list[Capability], Path]:
    """Measure every probe on the target and save the rows; returns them and the file.

    On an emulated board instructions are counted in place of time. Raises TargetError as ``bench`` does.
    """
    target = get_target(name)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, each in enumerate(_PROBES):
            progress(f"probe {each.op}", number, len(_PROBES))
            bundle = _bundle(each, Path(scratch) / str(number))
            if target.transport == "emulated":
                rows += list(_counted(each, check(bundle, target)))
            else:
                rows += list(_timed(each, bench(bundle, target, Wish((1,), 0.05, seconds=_SECONDS, launches=3))))
    return rows, save(target.name, rows)


def _bundle(each: _Probe, folder: Path) -> Path:
    """Float, and int8 for both runtimes."""
    rng = np.random.default_rng(0)
    sizes = ",".join(map(str, each.shape[1:]))
    head = '<ir_version: 10, opset_import: ["" : 21]>\nprobe '
    model = onnx.parser.parse_model(f"{head}(float[N,{sizes}] x) => (float[N,{each.gives}] y) {{ {each.text} }}")
    weight = (rng.standard_normal(each.weight) / np.sqrt(np.prod(each.weight[1:]))).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    folder.mkdir()
    onnx.save(model, folder / "probe.onnx")
    samples: Any = {"x": rng.standard_normal((16, *each.shape[1:])).astype(np.float32)}
    return pipeline.export(folder / "probe.onnx", calibration=samples, out=folder / "bundle").path


def _timed(each: _Probe, result: dict[str, Any]) -> Iterator[Capability]:
    for runtime, facts in result["settings"][0]["artifacts"].items():
        if "against_float" in facts:
            speed = 1 / facts["against_float"]["ratio"]
            yield Capability(each.op, runtime, 8, 8, gains(speed), round(speed, 3))


def _counted(each: _Probe, result: dict[str, Any]) -> Iterator[Capability]:
    counts = {
        name: facts["instructions"]["all"] for name, facts in result["artifacts"].items() if "instructions" in facts
    }
    for runtime in [name for name in counts if name != "float"]:
        speed = counts["float"] / counts[runtime]
        yield Capability(each.op, runtime, 8, 8, gains(speed), round(speed, 3), "instructions")
