"""The line for a language model: checkpoint folder -> graphs compared with torch -> plan -> files -> bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from exporter import bundle as bundles
from exporter import packing
from exporter.bundle import Artifact, TensorSpec
from exporter.errors import RecipeError
from exporter.files import writing
from exporter.lm import build, parity
from exporter.lm.checkpoint import TOKENIZER_FILES
from exporter.lm.genai import genai_config
from exporter.lm.last import keep_last
from exporter.lm.source import Decoder, open_decoder
from exporter.lm.text import Windows, open_tokenizer, windows
from exporter.loading import Parity
from exporter.recipe import Quantize, Recipe, to_dict, to_toml, with_overrides
from exporter.types import Rounded

__all__ = ["Made", "make"]

Progress = Callable[[str, int, int | None], None]
_PROMPTS, _PROMPT = 4, 32  # golden prompts, and tokens of each
_SAMPLES = "text is read in windows: language.windows and language.calibration_windows"
_DECODER = "weights, shapes and tokens are those of the checkpoint folder"
_UNUSED: Mapping[str, str] = {  # keys that would change nothing, and why
    "model.checkpoint": _DECODER,
    "model.inputs": _DECODER,
    "data.preprocess": _DECODER,
    "data.metric": "it is judged by perplexity",
    "data.calibration_samples": _SAMPLES,
    "data.evaluation_samples": _SAMPLES,
    "quantize.observer": "activations are not calibrated",
    "quantize.passes": "its layers are planned as they are",
    "quantize.io": "its inputs are tokens, its outputs logits in float32",
}


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle that is not checked yet; the largest difference to torch of its float graph; nodes in float and why."""

    bundle: bundles.Bundle
    parity: Parity
    float_nodes: Mapping[str, str]


def make(recipe: Recipe, folder: Path, *, base: Path, out: Path, progress: Progress) -> Made:
    """Raises KbitError for whatever the user must change; then nothing is left in ``out``."""
    wishes = recipe.language
    _check_wishes(recipe)
    progress("load", 0, None)
    decoder = open_decoder(folder, wishes.context)
    calibration = _windows(recipe, decoder, recipe.data.calibration, base, wishes.calibration_windows)
    evaluation = _windows(recipe, decoder, recipe.data.evaluation, base, wishes.windows)
    model = decoder.dynamic()
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out), tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as place:
        scratch = Path(place)
        tell = _stage(progress, "write float")
        files = {"float": build.write_onnx(keep_last(model), scratch / "float.onnx", progress=tell)}
        progress("compare with torch", 0, None)
        run = parity.file_runner(files["float"][0])
        close = parity.compare_dynamic(decoder, run, recipe.seed)
        golden = _golden(run, decoder, evaluation or calibration, recipe.seed)
        del run  # and with it the weights in float
        progress("plan", 0, None)
        tokens = None if calibration is None else calibration.tokens
        tell = _stage(progress, "quantize")
        rounded = build.round_decoder(decoder, model, _meant(recipe), tokens, progress=tell, seed=recipe.seed)
        if "onnxruntime" in recipe.targets.runtimes:
            progress("write onnx", 0, None)
            tell = _stage(progress, "write onnx")
            files["onnxruntime"] = build.write_onnx(build.emit(model, rounded), scratch / "model.onnx", progress=tell)
        if "tflite" in recipe.targets.runtimes:
            progress("write tflite", 0, None)
            tell = _stage(progress, "write tflite")
            files["tflite"] = [_write_tflite(decoder, rounded, wishes.prefill, scratch / "model.tflite", tell)]
        progress("pack", 0, None)
        made = _pack(out, recipe, decoder, model, rounded, files, golden, evaluation)
    return Made(made, close, rounded.plan.float_nodes)


def _check_wishes(recipe: Recipe) -> None:
    language = recipe.language
    if recipe.quantize.activations == "int16":
        found = "quantize.activations = 'int16' for a language model"
        raise RecipeError(found, 'only weights are planned: activations = "dynamic" (fast) or "float"')
    body = to_dict(recipe)  # without defaults
    for key, why in _UNUSED.items():
        table, name = key.split(".")
        if name in body.get(table, {}):
            raise RecipeError(f"{key} for a language model", f"leave it out: {why}")
    if language.context is not None and language.window > language.context:
        found = f"language.window = {language.window} is longer than language.context = {language.context}"
        raise RecipeError(found, "the cache must hold a window")


def _meant(recipe: Recipe) -> Quantize:
    """What the wishes mean for a language model.

    Activations are never calibrated: int8 ones are quantized anew in each run. Weights of fewer than 8 bits get a scale
    for each 32 inputs where nothing else is asked for: one a column costs several times the loss.
    """
    quantize, changes = recipe.quantize, dict[str, Any]()
    if quantize.activations == "int8":
        changes["quantize.activations"] = "dynamic"
    if quantize.granularity == "channel" and quantize.weights not in {"int8", "float16", "float"}:
        changes["quantize.granularity"] = 32
    return with_overrides(recipe, changes).quantize


def _windows(recipe: Recipe, decoder: Decoder, source: str | None, base: Path, count: int) -> Windows | None:
    if source is None:
        return None
    tokenizer = open_tokenizer(decoder.checkpoint.tokenizer, decoder.checkpoint.path)
    length = min(recipe.language.window, decoder.plan.context)
    return windows(base / source, tokenizer, length, count, decoder.plan.vocabulary)


def _stage(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _write_tflite(
    decoder: Decoder, rounded: Rounded, lengths: Sequence[int], path: Path, progress: Callable[[int, int], None]
) -> Path:
    content = build.tflite_content(build.static_models(decoder, lengths), rounded)
    with path.open("wb") as file:
        content.write(file, progress)
    return path


def _pack(
    out: Path,
    recipe: Recipe,
    decoder: Decoder,
    model: ir.Model,
    rounded: Rounded,
    files: Mapping[str, Sequence[Path]],
    golden: Mapping[str, np.ndarray],
    evaluation: Windows | None,
) -> bundles.Bundle:
    static = decoder.static(1) if "tflite" in files else model
    artifacts = [_artifact(name, paths, static if name == "tflite" else model) for name, paths in files.items()]
    texts = {
        "plan.json": rounded.plan.to_json(),
        "recipe.toml": to_toml(recipe),
        "genai_config.json": genai_config(decoder),
    }
    extra: dict[str, Path] = {path.name: path for paths in files.values() for path in paths[1:]}
    extra |= {
        name: decoder.checkpoint.path / name for name in TOKENIZER_FILES if (decoder.checkpoint.path / name).is_file()
    }
    packed: dict[str, np.ndarray] | None = None
    if evaluation is not None:
        packed = {"input.tokens": evaluation.tokens, "bytes": evaluation.bytes}
    return bundles.package(
        out,
        name=recipe.name or Path(recipe.model.source).name,
        artifacts=artifacts,
        inputs=[asdict(spec) for spec in artifacts[0].inputs],
        outputs=[asdict(spec) for spec in artifacts[0].outputs[:1]],
        golden=golden,
        evaluation=packed,
        metric="perplexity",
        texts=texts,
        extra=extra,
        gates=to_dict(recipe.gates),
        recipe=to_dict(recipe),
        float_nodes=rounded.plan.float_nodes,
        versions=packing.versions(),
        language_model=_facts(decoder, recipe),
    )


def _artifact(name: str, paths: Sequence[Path], model: ir.Model) -> Artifact:
    runtime = "tflite" if name == "tflite" else "onnxruntime"
    role = "reference" if name == "float" else "candidate"
    inputs, outputs = ([_spec(v) for v in values] for values in (model.graph.inputs, model.graph.outputs))
    beside = tuple(path.name for path in paths[1:])
    return Artifact(name, runtime, role, paths[0].name, paths[0], tuple(inputs), tuple(outputs), beside)


def _spec(value: ir.Value) -> TensorSpec:
    assert value.name is not None
    assert value.dtype is not None
    shape = tuple(d if isinstance(d, int) else str(d) for d in value.shape or ())
    return TensorSpec(value.name, value.dtype.numpy().name, shape)


def _facts(decoder: Decoder, recipe: Recipe) -> dict[str, Any]:
    plan = decoder.plan
    return {
        "family": plan.name,
        "parameters": decoder.checkpoint.parameters,
        "vocabulary": plan.vocabulary,
        "context": plan.context,
        "layers": len(plan.layers),
        "kv_heads": plan.kv_heads,
        "head_size": plan.heads.padded,
        "end": list(plan.end),
        "prefill": sorted(set(recipe.language.prefill)),
        "tokenizer": "tokenizer.json" if decoder.checkpoint.tokenizer is not None else None,
    }


def _prompts(decoder: Decoder, sample: Windows | None, seed: int) -> np.ndarray:
    length = min(_PROMPT, decoder.plan.context // 2)
    if sample is not None and sample.tokens.shape[1] >= length:
        return sample.tokens[:_PROMPTS, :length].astype(np.int32)
    return np.random.default_rng(seed).integers(0, decoder.plan.vocabulary, (_PROMPTS, length)).astype(np.int32)


def _golden(run: parity.Run, decoder: Decoder, sample: Windows | None, seed: int) -> dict[str, np.ndarray]:
    """Prompts, and the logits after each as the float file gives them here."""
    prompts = _prompts(decoder, sample, seed)
    rows = [run(parity.dynamic_feeds(decoder.plan, row[None].astype(np.int64)))["logits"][0, -1] for row in prompts]
    return {"input.tokens": prompts, "expected.float.last": np.stack(rows)}
