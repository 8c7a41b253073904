"""What each width buys on a device: small models of one operator, run there, as rows of its capabilities."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from exporter import packing
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.pipeline import Progress
from exporter.preparing import prepare
from exporter.quantization import quantize
from exporter.quantize import apply
from exporter.recipe import InputSpec, Model, Quantize, Recipe
from exporter.types import Plan
from targets import Target, get_target
from targets.bench import Wish, bench
from targets.capabilities import Capability, judged, save
from targets.transports.emulation import BOARDS
from targets.transports.emulation import prepare as prepare_boards
from targets.transports.emulation.instructions import count

__all__ = ["probe"]

_SECONDS = 20.0
_REFERENCE = {"onnxruntime": "float", "tflite": "tflite float"}  # the float file of each runtime


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
# quantize.weights and quantize.activations -> the numbers of a row
_WIDTHS: Mapping[tuple[str, str], tuple[int, int, bool]] = {
    ("int8", "int8"): (8, 8, False),
    ("int4", "int8"): (4, 8, False),
    ("int2", "int8"): (2, 8, False),
    ("int8", "int16"): (8, 16, False),
    ("int8", "dynamic"): (8, 8, True),
    ("int4", "dynamic"): (4, 8, True),
    ("int8", "float"): (8, 0, False),
    ("int4", "float"): (4, 0, False),
    ("float16", "float"): (16, 0, False),
}


def probe(name: str, progress: Progress) -> tuple[list[Capability], Path]:
    """Measure every probe on the target in every width, and save the rows; returns them and the file.

    On an emulated board instructions are counted in place of time. Raises TargetError as ``bench`` does.
    """
    target = get_target(name)
    rows: list[Capability] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, each in enumerate(_PROBES):
            progress(f"probe {each.op}", number, len(_PROBES))
            bundle, widths = _bundle(each, Path(scratch) / str(number))
            costs, source = _costs(bundle, target, [*_REFERENCE.values(), *widths], progress)
            for artifact, (runtime, width) in widths.items():
                if artifact in costs:
                    bits, activations, dynamic = _WIDTHS[width]
                    speed = round(costs[_REFERENCE[runtime]] / costs[artifact], 3)
                    rows.append(Capability(each.op, runtime, bits, activations, False, speed, source, dynamic))
    rows = judged(rows)
    return rows, save(target, rows)


def _costs(bundle: Path, target: Target, names: list[str], progress: Progress) -> tuple[dict[str, float], str]:
    """Of each artifact: median ms, or instructions; and what was measured, in words."""
    if target.transport == "emulated":
        counted = count(prepare_boards(progress), BOARDS[target.address], bundle, names)
        return {name: float(counts["all"]) for name, counts in counted.items()}, "instructions"
    wish = Wish((1,), 0.05, launches=3, warm_up=1.0, seconds=_SECONDS, times_alone=True)
    found = bench(bundle, target, wish, progress=progress)
    times = {name: facts["p50"] for name, facts in found["settings"][0]["artifacts"].items()}
    return times, f"latency, {found['device']['model'] or found['device']['cpu']}"


def _bundle(each: _Probe, folder: Path) -> tuple[Path, dict[str, tuple[str, tuple[str, str]]]]:
    """Float and every width, for both runtimes; the artifacts in low bits -> (runtime, width)."""
    model, samples = _model(each)
    plain = emit_onnx(model)
    made = packing.artifacts(
        {"float": packing.onnx_bytes(plain), "tflite": emit_tflite(model)}, model, model, Plan({}), channels_last=False
    )
    made[1] = dataclasses.replace(made[1], name=_REFERENCE["tflite"], path="float.tflite")
    widths = {}
    for width in _WIDTHS:
        weights, activations = width
        wishes = Quantize(weights=weights, activations=activations, rounder="nearest")  # type: ignore[arg-type]
        found = quantize(model, wishes, lambda: [samples], count=1)
        plan = found.rounded.plan
        quantized = apply(found.model, found.rounded)
        files = {
            "onnxruntime": packing.onnx_bytes(emit_onnx(quantized, plan), lean=True),
            "tflite": emit_tflite(quantized, plan),
        }
        for artifact in packing.artifacts(files, found.model, quantized, plan, channels_last=False):
            name = f"{artifact.name} {weights} {activations}"
            widths[name] = (artifact.runtime, width)
            made.append(dataclasses.replace(artifact, name=name, path=f"{weights}-{activations}-{artifact.path}"))
    inputs = {"x": InputSpec([1, *each.shape[1:]])}
    recipe = Recipe(Model("probe"))
    golden = packing.golden(made, inputs, recipe, None, 1)
    packing.pack(folder, recipe, inputs, made, golden, None, model, Plan({}))
    return folder, widths


def _model(each: _Probe) -> tuple[ir.Model, dict[str, Any]]:
    """The operator as a prepared graph, and samples for it."""
    rng = np.random.default_rng(0)
    sizes = ",".join(map(str, each.shape[1:]))
    head = '<ir_version: 10, opset_import: ["" : 21]>\nprobe '
    model = onnx.parser.parse_model(f"{head}(float[1,{sizes}] x) => (float[1,{each.gives}] y) {{ {each.text} }}")
    weight = (rng.standard_normal(each.weight) / np.sqrt(np.prod(each.weight[1:]))).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    samples = {"x": rng.standard_normal((1, *each.shape[1:])).astype(np.float32)}
    return prepare(ir.from_proto(model)), samples
