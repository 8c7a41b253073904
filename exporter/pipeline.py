"""The whole line, top to bottom: from a recipe to a checked bundle. Read this file first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import targets
from exporter import bundle as bundles
from exporter import language, packing, parity, reference, training, worth
from exporter.data import Dataset
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, refuse_unknown
from exporter.errors import MissingError, RecipeError
from exporter.explaining import Cause, causes, shares
from exporter.graph import node_name
from exporter.inspection import WeightUse, by_use, inspect_file
from exporter.linting import Finding, lint
from exporter.lm.checkpoint import is_checkpoint
from exporter.loading import Parity
from exporter.quantization import Quantized, quantize
from exporter.quantize import FLOAT_WEIGHTS, apply
from exporter.recipe import Language, Model, Recipe, with_arguments
from exporter.subject import Source, Subject, open_subject
from exporter.types import Plan, Rounded

if TYPE_CHECKING:
    import torch

    from exporter.finetune import History
    from exporter.pruning import Pruning

__all__ = ["Outcome", "Progress", "build", "check", "export", "findings", "quiet", "run"]

Progress = Callable[[str, int, int | None], None]  # stage, done, total
_ANALYSED = 64  # samples behind the figures of each layer
_GOLDEN = 16
_CERTIFIED = 64  # samples through both whole artifacts
_EXPLAINED = 0.3  # points of the metric that may be lost without asking why
_SHARED, _BATCH = 128, 16  # samples that each layer's share is measured on
_ALL_FLOAT = "the recipe asks for a float model"
_DRAWN = 6  # tensors whose histograms are kept for the report


@dataclass(frozen=True, slots=True)
class Outcome:
    """A checked bundle, the checker's verdict, the float difference to torch, which nodes run in float, and what is
    wrong with the calibration data.

    training       how each training went
    pruning        what was removed
    no_gains       widths that buy no speed on the recipe's targets
    float_weights  by artifact: weights with integers in the plan that lie in its file as float32 numbers
    causes         what the loss looks like, where there is one
    idle_passes    by weight pass of the recipe that changed nothing, what it had looked for
    """

    bundle: bundles.Bundle
    check: Mapping[str, Any]
    parity: Parity | None
    float_nodes: Mapping[str, str]
    report: Path | None
    findings: Sequence[Finding] = ()
    training: tuple[History, ...] = ()
    pruning: Pruning | None = None
    no_gains: Sequence[worth.NoGain] = ()
    float_weights: Mapping[str, Sequence[str]] = field(default_factory=dict)
    causes: Sequence[Cause] = ()
    idle_passes: Mapping[str, str] = field(default_factory=dict)


def quiet(stage: str, done: int, total: int | None) -> None:
    """A Progress that shows nothing."""


def run(
    recipe: Recipe,
    *,
    base: Path | str = ".",
    out: Path | str,
    progress: Progress = quiet,
    source: Source | None = None,
) -> Outcome:
    """Load, prepare, prune, calibrate, plan, round, train, apply, emit, package, check, report.

    base  folder that the recipe's relative paths start from
    out   folder of the bundle, new or empty
    Raises KbitError (one line) for whatever the user must change; then nothing is left in ``out``.
    """
    base, out = Path(base), Path(out)
    source = source or Source.of(recipe)
    bundles.claim(out)
    if isinstance(source.model, Model) and is_checkpoint(base / source.model.source):
        return _run_language(recipe, base, out, progress)
    _check_wishes(recipe, base, source.calibration is not None, source.training is not None)
    progress("load", 0, None)
    return build(recipe, open_subject(recipe, base, source), out=out, progress=progress)


def build(recipe: Recipe, subject: Subject, *, out: Path, progress: Progress = quiet, proofs: bool = True) -> Outcome:
    """The same from an opened subject on, which may serve many recipes of one model and its data.

    proofs  also what explains the bundle (errors of layers, parity of the artifacts, the report); False: figures alone
    """
    bundles.claim(out)
    _check_wishes(recipe, subject.base, subject.calibration is not None, subject.training is not None)
    inputs, calibration, evaluation = subject.inputs, subject.calibration, subject.evaluation
    integer = recipe.quantize.weights != "float" or bool(recipe.quantize.override)
    model = subject.prepared(integer=integer)
    if "tflite" in recipe.targets.runtimes:
        refuse_unknown(model)
    subject.check_evaluation(recipe.data.metric)
    faults = lint(recipe, subject, model, progress) if proofs and integer else []
    slim = training.pruned(recipe, model, subject, progress)
    found = Quantized(slim.model, {}, Rounded(Plan({}), {}))
    if integer:
        count = None if calibration is None else calibration.count
        batches = subject.batches(recipe.data.batch_size)
        wishes = training.quantize_wishes(recipe)
        found = quantize(slim.model, wishes, batches, count=count, progress=progress, seed=recipe.seed)
    found, histories = training.finetuned(recipe, model, found, slim, subject, progress)
    plan = found.rounded.plan
    quantized = apply(found.model, found.rounded, io=recipe.quantize.io)
    progress("emit", 0, None)
    channels_last = any(len(spec.shape) == 4 for spec in inputs.values())
    files = {"float": packing.onnx_bytes(emit_onnx(model))}
    if "onnxruntime" in recipe.targets.runtimes:
        files["onnxruntime"] = packing.onnx_bytes(emit_onnx(quantized, plan), lean=True)
    if "tflite" in recipe.targets.runtimes:
        smallest = recipe.targets.prefer == "size"
        files["tflite"] = emit_tflite(quantized, plan, channels_last=channels_last, smallest=smallest)
    artifacts = packing.artifacts(files, model, quantized, plan, channels_last=channels_last)
    samples = evaluation or calibration
    golden = packing.golden(artifacts, inputs, recipe, samples, _GOLDEN)
    bundle = packing.pack(out, recipe, inputs, artifacts, golden, evaluation, model, plan)
    no_gains: list[worth.NoGain] = []
    analysis: dict[str, Any] = {}
    uses = _weight_uses(bundle) if proofs else {}
    if proofs:
        devices = [targets.get_target(name, subject.base) for name in recipe.targets.names]
        no_gains = worth.no_gains(found.model, plan, devices, recipe.targets.runtimes)
        analysis = _analyse(
            bundle, found, samples or golden, subject.parity, faults, histories, slim.facts, no_gains, uses
        )
    if proofs and {"onnxruntime", "tflite"} <= set(files) and plan.tensors:
        parity.certify(bundle.path, samples=_CERTIFIED, others=False, progress=progress)
    result = check(bundle.path, progress=progress)
    named: Sequence[Cause] = ()
    if proofs and plan.tensors and _lost(result):
        named = _explain(bundle, found, recipe, subject, analysis, progress)
    report = _report(bundle.path, progress) if proofs else None
    in_float = plan.float_nodes if integer else dict.fromkeys(map(node_name, model.graph), _ALL_FLOAT)
    wide = {name: kept for name, some in uses.items() if (kept := _kept_wide(some, plan))}
    facts = faults, histories, slim.facts, no_gains, wide, named, found.idle_passes
    return Outcome(bundle, result, subject.parity, in_float, report, *facts)


def _run_language(recipe: Recipe, base: Path, out: Path, progress: Progress) -> Outcome:
    """The same for a checkpoint folder: a language model."""
    if recipe.finetune.data is not None or recipe.prune.method is not None:
        raise RecipeError("[finetune] or [prune] with a checkpoint folder", "language models are quantized only")
    for name in recipe.targets.names:
        targets.get_target(name, base)
    made = language.make(recipe, base / recipe.model.source, base=base, out=out, progress=progress)
    bundles.add_result(made.bundle.path, "analysis.json", {"parity": asdict(made.parity)})
    result = check(made.bundle.path, progress=progress)
    return Outcome(made.bundle, result, made.parity, made.float_nodes, _report(made.bundle.path, progress))


def export(
    model: torch.nn.Module | str | Path,
    example_inputs: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    calibration: Any = None,
    evaluation: Any = None,
    finetune: Any = None,
    out: Path | str,
    base: Path | str = ".",
    progress: Progress = quiet,
    **keys: Any,
) -> bundles.Bundle:
    """The line in one call: a torch module, "module:callable", .pt2 or .onnx -> a checked bundle in ``out``.

    calibration, evaluation  a path as in a recipe, an array, a dict of arrays by input name (with "labels"), or
                             batches of them, as from a torch DataLoader
    finetune                 the same: samples to train the quantized model on
    keys                     any key of a recipe by its own name: weights="int8", observer="mse", max_drop=0.5,
                             preprocess={"image": Preprocess(...)}, inputs={"image": InputSpec(...)}
    """
    named = isinstance(model, (str, Path))
    texts = {"calibration": calibration, "evaluation": evaluation, "finetune": finetune}
    keys |= {key: value for key, value in texts.items() if isinstance(value, (str, Path))}
    recipe = with_arguments(None, {"source": str(model) if named else type(model).__name__, **keys})
    source = Source(recipe.model if named else model, example_inputs, calibration, evaluation, finetune)
    return run(recipe, base=base, out=out, progress=progress, source=source).bundle


def check(bundle: Path | str, on: str = "host", *, progress: Progress = quiet, **options: Any) -> dict[str, Any]:
    """Run the bundle's own checker on a target, keep its result in the bundle as check.json, and return it.

    options  samples, threads, limit_s, keep, announce: as ``targets.check`` takes them
    """
    bundles.claim_result(Path(bundle), "check.json")
    progress(f"check on {on}", 0, None)
    result = targets.check(bundle, on, progress=progress, **options)
    bundles.add_result(Path(bundle), "check.json", result)
    return result


def findings(bundle: Path | str) -> list[dict[str, Any]]:
    """What the linter said of the bundle's calibration data when it was made; nothing of an older bundle."""
    place = Path(bundle) / "analysis.json"
    body = json.loads(place.read_text("utf-8")) if place.is_file() else {}
    return list(body.get("findings") or [])


def _check_wishes(recipe: Recipe, base: Path, calibrated: bool, trained: bool) -> None:
    quantize = recipe.quantize
    if recipe.language != Language():
        raise RecipeError("[language] for a model that is not a checkpoint folder", "leave it out")
    if quantize.weights in FLOAT_WEIGHTS and quantize.activations != "float":
        found = f"quantize.weights = {quantize.weights!r} with quantize.activations = {quantize.activations!r}"
        raise RecipeError(found, 'integer activations need integer weights; activations = "float" goes with any')
    if quantize.activations in {"int8", "int16"} and not calibrated:
        found = f"{quantize.activations} activations need samples to calibrate with: --calibration FILE.npz"
        raise RecipeError("data.calibration is missing", found)
    training.refuse(recipe, trained=trained, calibrated=calibrated)
    for name in recipe.targets.names:
        targets.get_target(name, base)


def _analyse(
    bundle: bundles.Bundle,
    found: Quantized,
    samples: Dataset | Mapping[str, np.ndarray],
    parity: Parity | None,
    findings: Sequence[Finding],
    trained: Sequence[History],
    pruning: Pruning | None,
    no_gains: Sequence[worth.NoGain],
    uses: Mapping[str, Sequence[WeightUse]],
) -> dict[str, Any]:
    """analysis.json: findings of the linter, each layer's error, the worst tensors' histograms, parity with torch,
    what was pruned, how training went, widths that buy no speed, weight passes that changed nothing."""
    layers, plan = [], found.rounded.plan
    if plan.tensors and isinstance(samples, Dataset):
        quantized = apply(found.model, found.rounded)
        layers = reference.layer_errors(found.model, quantized, plan, samples.batches(8, _ANALYSED))
    worst = sorted(layers, key=lambda layer: layer.sqnr_db)[:_DRAWN]
    body = {
        "findings": [asdict(finding) for finding in findings],
        "layers": [asdict(layer) for layer in layers],
        "histograms": [packing.histogram(layer.value, found.stats[layer.value], plan) for layer in worst],
        "parity": None if parity is None else asdict(parity),
        "weights": {name: [_counted(alike) for alike in by_use(some)] for name, some in uses.items()},
        "pruning": None if pruning is None else asdict(pruning),
        "training": [asdict(history) for history in trained],
        "no_gains": [worth.to_dict(each) for each in no_gains],
        "idle_passes": dict(found.idle_passes),
    }
    bundles.add_result(bundle.path, "analysis.json", body)
    return body


def _lost(check: Mapping[str, Any]) -> bool:
    """Is there a loss worth explaining?"""
    drops = [facts.get("drop") or 0.0 for facts in check["artifacts"].values()]
    return max(drops, default=0.0) > _EXPLAINED or not check["passed"]


def _explain(
    bundle: bundles.Bundle,
    found: Quantized,
    recipe: Recipe,
    subject: Subject,
    analysis: Mapping[str, Any],
    progress: Progress,
) -> Sequence[Cause]:
    """Add each layer's share and the named causes to analysis.json; the causes."""
    samples = subject.evaluation or subject.calibration
    if samples is None:
        return ()
    rows = [reference.LayerError(**layer) for layer in analysis["layers"]]
    worst = [row.node for row in sorted(rows, key=lambda row: row.sqnr_db)]
    told = lambda done, total: progress("explain", done, total)  # noqa: E731
    batches = list(samples.batches(_BATCH, _SHARED))
    labels = (
        None if samples.labels is None else samples.labels[: sum(len(next(iter(batch.values()))) for batch in batches)]
    )
    parts, whole = shares(found, batches, labels, recipe.data.metric, worst_first=worst, progress=told)
    named = causes(found.model, found.rounded, found.stats, rows)
    explained = {"shares": [asdict(part) for part in parts], "causes": [asdict(each) for each in named]}
    body = {**analysis, "divergence": whole, **explained}
    bundles.add_result(bundle.path, "analysis.json", body)
    return named


def _weight_uses(bundle: bundles.Bundle) -> dict[str, Sequence[WeightUse]]:
    """By candidate: how weights lie in its file and run in the runtime that has loaded it."""
    found: dict[str, Sequence[WeightUse]] = {}
    for artifact in bundle.manifest["artifacts"]:
        kernels = inspect_file(bundle.path / artifact["path"]).kernels if artifact["role"] == "candidate" else None
        if kernels is not None and kernels.weights:
            found[str(artifact["name"])] = kernels.weights
    return found


def _counted(alike: Sequence[WeightUse]) -> dict[str, Any]:
    """Weights of one use as analysis.json has them: how many, and values in all of them."""
    one, values = alike[0], sum(use.count for use in alike)
    kind = {"stored": one.stored, "runs": one.runs, "label": one.label, "op": one.op}
    return {**kind, "weights": len(alike), "values": values}


def _kept_wide(uses: Sequence[WeightUse], plan: Plan) -> list[str]:
    """Weights with integers in the plan for which the file has float32 numbers: the runtime has no kernel for them."""
    planned = {name for name, tensor in plan.tensors.items() if tensor.role == "weight" and tensor.qparams is not None}
    return [use.name for use in uses if use.stored == 32 and use.name in planned]


def _report(path: Path, progress: Progress) -> Path | None:
    from exporter.report import render

    progress("report", 0, None)
    try:
        return render(path)
    except MissingError:
        return None  # plots are an extra; kbit report says how to get it
