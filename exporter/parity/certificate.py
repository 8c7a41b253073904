"""Bundle -> certificate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import bundle as bundles
from exporter import reference
from exporter.emit._slice import open_parts
from exporter.emit.tflite import read_tflite
from exporter.errors import BundleError
from exporter.parity.numbers import compare_numbers
from exporter.parity.others import further, in_another_python, litert
from exporter.parity.runs import closest, compare_operators, onnx_trace, tapped_tflite
from exporter.parity.types import Certificate, OperatorParity, Spread, to_dict
from exporter.types import Plan
from targets.agent import worker
from targets.agent.manifest import batch_of

__all__ = ["certify"]

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
_TRACED = 8  # samples through every operator on its own
_SLOW = 50  # through kernels that are no faster than they need to be
Progress = Callable[[str, int, int | None], None]


def quiet(stage: str, done: int, total: int | None) -> None:
    """A Progress that shows nothing."""


def certify(
    path: Path | str, *, samples: int = 200, others: bool = True, python: str | None = None, progress: Progress = quiet
) -> Certificate:
    """Compare the two artifacts of a bundle on its own data (evaluation samples, else the golden ones).

    samples  at most so many through both whole artifacts
    others   run the TFLite file on other kernels too
    python   a Python with another TFLite runtime, such as tflite-runtime 2.14
    Writes the certificate into the manifest (key ``parity``, without the operators) and whole into parity.json.
    Raises BundleError for a bundle that is broken or has only one artifact.
    """
    bundle = bundles.verify(path)
    artifacts = {a["name"]: a for a in bundle.manifest["artifacts"]}
    for name in ("onnxruntime", "tflite"):
        if name not in artifacts:
            raise BundleError(f"{bundle.path} has no {name} artifact", "parity compares two: export for both runtimes")
    bundles.claim_result(bundle.path, "parity.json")
    plan = Plan.from_json((bundle.path / "plan.json").read_text("utf-8"))
    model = ir.load(bundle.artifact("onnxruntime"))
    data = bundle.artifact("tflite").read_bytes()
    feeds = _feeds(bundle, samples)
    ours, theirs = ([_physical(f, artifacts[name]) for f in feeds] for name in ("onnxruntime", "tflite"))
    progress("parity: numbers", 0, None)
    numbers = compare_numbers(plan, model, data)
    progress("parity: operators", 0, None)
    operators, parts_at, skipped = _operators(plan, model, data, ours[:_TRACED], theirs[:_TRACED])
    progress("parity: whole", 0, None)
    output = bundle.manifest["outputs"][0]
    name = output["name"]
    base = _run_onnx(model, ours, name, optimize=True)
    scale = output.get("scale") if base.dtype.kind == "f" else 1.0  # an integer output counts steps itself
    turned = next((o.get("permutation") for o in artifacts["tflite"]["outputs"] if o["name"] == name), None)
    spreads = {}
    if others:
        progress("parity: other runtimes", 0, None)
        few = theirs[:_SLOW]
        spreads = {k: _spread(base, o, scale) for k, o in further(data, few, name, turned).items()}
    if python is not None:
        found, result = in_another_python(bundle.path, bundle.manifest, python, name, samples)
        spreads[found] = _spread(base, result, scale)
    certificate = Certificate(
        versions={p: metadata.version(p) for p in ("onnxruntime", "ai-edge-litert")},
        numbers=numbers,
        operators=tuple(operators),
        whole=_spread(base, litert(data, theirs, name, turned), scale),
        noise=_spread(base, _run_onnx(model, ours, name, optimize=False), scale),
        parts_at=parts_at,
        others=spreads,
        skipped=dict(skipped),
    )
    body = to_dict(certificate)
    bundles.add_result(bundle.path, "parity.json", body)
    bundles.amend_manifest(bundle.path, parity={k: v for k, v in body.items() if k != "operators"})
    return certificate


def _operators(
    plan: Plan, model: ir.Model, data: bytes, ours: Sequence[Feeds], theirs: Sequence[Feeds]
) -> tuple[list[OperatorParity], tuple[str, float] | None, Mapping[str, int]]:
    if not any(t.role == "activation" and t.qparams is not None for t in plan.tensors.values()):
        return [], None, {"the model is in float": 1}
    if len(read_tflite(data).subgraphs) > 1:
        return [], None, {"the file has control flow": 1}
    parts = open_parts(data)
    trace = onnx_trace(model, plan, ours)
    operators, matched, skipped = compare_operators(parts, data, trace, theirs)
    return operators, _first_difference(trace, tapped_tflite(parts, data, matched, theirs), list(plan.tensors)), skipped


def _feeds(bundle: bundles.Bundle, limit: int) -> list[Feeds]:
    """Model-ready arrays, one batch of the model's own size for each."""
    entry = bundle.manifest.get("evaluation") or bundle.manifest["golden"]
    with np.load(bundle.path / entry["path"], allow_pickle=False) as archive:
        raw = {key: archive[key] for key in archive.files if key.startswith("input.")}
    size = batch_of(bundle.manifest)
    most = min(len(next(iter(raw.values()))), limit)
    starts = range(0, most - most % size, size)
    batches = (worker.feeds_of(bundle.manifest, raw, start, start + size) for start in starts)
    return [{name: np.ascontiguousarray(array) for name, array in batch.items()} for batch in batches]


def _physical(feeds: Feeds, artifact: Mapping[str, Any]) -> dict[str, Array]:
    """As the artifact takes them: permuted, quantized where its inputs are integers."""
    found = {}
    for spec in artifact["inputs"]:
        array = feeds[spec["name"]]
        if spec.get("permutation"):
            array = array.transpose(spec["permutation"])
        if spec.get("scale"):
            limits = np.iinfo(spec["dtype"])
            array = np.clip(np.rint(array / np.float32(spec["scale"])) + spec["zero_point"], limits.min, limits.max)
        found[spec["name"]] = np.ascontiguousarray(array, spec["dtype"])
    return found


def _run_onnx(model: ir.Model, feeds: Sequence[Feeds], output: str, *, optimize: bool) -> Array:
    session = reference.session(model, threads=1, optimize=optimize)
    return np.concatenate([session.run([output], dict(f))[0] for f in feeds])


def _first_difference(
    trace: Mapping[str, Array], whole: Mapping[str, Array], order: Sequence[str]
) -> tuple[str, float] | None:
    for name in order:
        if name in whole:
            turned = closest(trace[name], whole[name])
            if turned is not None and not np.array_equal(turned, whole[name]):
                return name, float((turned == whole[name]).mean())
    return None


def _spread(a: Array, b: Array, scale: float | None) -> Spread:
    x, y = a[: len(b)].astype(np.float64), b.astype(np.float64)
    top1 = None
    if x.ndim > 1 and x.shape[-1] > 1:
        axis = 1 if x.ndim == 4 else -1
        top1 = float((x.argmax(axis) == y.argmax(axis)).mean())
    peak = max(float(np.abs(x).max(initial=0.0)), 1e-30)
    steps: tuple[float, ...] = ()
    if scale:
        apart = np.abs(np.rint(x / scale) - np.rint(y / scale)).ravel()
        steps = (*(float((apart == n).mean()) for n in (0, 1, 2)), float((apart > 2).mean()))
    equal = float(((x == y) | (np.isnan(x) & np.isnan(y))).mean())
    return Spread(len(x), top1, equal, float(np.abs(x - y).max(initial=0.0)) / peak, steps)
