"""One point of the law, in a process of its own: plan, round, size of the file, loss with the weights put back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from exporter.data import open_dataset
from exporter.emit.ort import emit_onnx
from exporter.errors import DataError, RecipeError
from exporter.law.types import WIDTHS, Point, Result
from exporter.lm import parity
from exporter.lm.build import batches_of
from exporter.lm.checkpoint import is_checkpoint
from exporter.lm.source import open_decoder
from exporter.lm.text import open_tokenizer, windows
from exporter.loading import load_with_parity
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantization import round_planned
from exporter.quantize import apply, make_plan
from exporter.recipe import InputSpec, Model, Quantize, Recipe, from_dict, with_overrides
from exporter.reference import session, with_rounded_weights
from exporter.types import Rounded
from targets.agent import metrics
from targets.agent.sampling import log_softmax

__all__ = ["measure"]

_ROWS = 4  # windows in one run
_DERIVED = "rotary"  # tables that follow from the settings


class _Subject:
    """A member of the family, opened once a process: its float graph, its calibration, and how to judge weights."""

    def __init__(
        self,
        model: ir.Model,
        batches: Callable[[], Iterable[Mapping[str, Any]]] | None,
        judge: Callable[[ir.Model], Any],
    ) -> None:
        self.model, self.batches, self.judge = model, batches, judge


def measure(body: Mapping[str, Any], base: str, point: Point) -> Result:
    """``body``: the recipe as plain data. Everything is picklable, so that any executor can run it."""
    recipe = from_dict(body, "recipe")
    subject = _open(json.dumps([body, base, point.member.source, point.member.checkpoint]))
    language = is_checkpoint(Path(base) / point.member.source)
    wishes = _wishes(recipe, point, language=language)
    plan = make_plan(subject.model, {}, wishes, samples=subject.batches is not None)
    made = round_planned(subject.model, plan, wishes, subject.batches, seed=recipe.seed)
    shipped = emit_onnx(apply(subject.model, made), made.plan)
    loss, metric = subject.judge(with_rounded_weights(subject.model, made))
    parameters, bits = _bits(subject.model, made)
    size = len(ir.to_proto(shipped).SerializeToString())
    names = point.key, point.member.name, point.bits, point.group, point.rounder
    return Result(*names, parameters, bits, size, loss, metric)


def _wishes(recipe: Recipe, point: Point, *, language: bool) -> Quantize:
    """Every matrix and table at the same width; activations stay out of it."""
    width = WIDTHS[point.bits]
    grain = point.group or "channel"
    tables = {"match": "Gather", "weights": width, "granularity": point.group or 32}
    changes = {
        "quantize.weights": width,
        "quantize.activations": "float",
        "quantize.embeddings": "float",
        "quantize.granularity": grain,
        "quantize.rounder": point.rounder,
        "quantize.override": [tables] if language else [],
    }
    return with_overrides(recipe, changes).quantize


@lru_cache(maxsize=2)
def _open(text: str) -> _Subject:
    body, base, source, checkpoint = json.loads(text)
    recipe, folder = from_dict(body, "recipe"), Path(base)
    if is_checkpoint(folder / source):
        return _language(recipe, folder, source)
    return _other(recipe, folder, source, checkpoint)


def _language(recipe: Recipe, base: Path, source: str) -> _Subject:
    wishes, data = recipe.language, recipe.data
    decoder = open_decoder(base / source, wishes.context)
    tokenizer = open_tokenizer(decoder.checkpoint.tokenizer, decoder.checkpoint.path)
    length = min(wishes.window, decoder.plan.context)

    def read(path: str, count: int) -> Any:
        return windows(base / path, tokenizer, length, count, decoder.plan.vocabulary)

    assert data.evaluation is not None
    text = read(data.evaluation, wishes.windows)
    model = decoder.dynamic()
    parity.compare_dynamic(decoder, parity.runner(model, threads=1), recipe.seed)
    batches = None
    if data.calibration is not None:
        batches = batches_of(decoder, read(data.calibration, wishes.calibration_windows).tokens)

    def judge(candidate: ir.Model) -> tuple[float, float]:
        run, nats = parity.runner(candidate, threads=1), 0.0
        for start in range(0, len(text.tokens), _ROWS):
            rows = text.tokens[start : start + _ROWS].astype(np.int64)
            logs = log_softmax(run(parity.dynamic_feeds(decoder.plan, rows[:, :-1]))["logits"])
            nats -= float(np.take_along_axis(logs, rows[:, 1:, None], axis=-1).sum())
        return nats / text.tokens[:, 1:].size, nats / math.log(2) / float(text.bytes.sum())

    return _Subject(model, batches, judge)


def _other(recipe: Recipe, base: Path, source: str, checkpoint: str | None) -> _Subject:
    data = recipe.data
    loaded = load_with_parity(Model(source, checkpoint, recipe.model.inputs), base=base, seed=recipe.seed)
    model = prepare(loaded.model, INT8_PASSES)
    specs = _inputs(model)

    def open_(path: str, limit: int, *, labelled: bool) -> Any:
        return open_dataset(path, specs, data.preprocess, base=base, limit=limit, labelled=labelled, seed=recipe.seed)

    assert data.evaluation is not None
    evaluation = open_(data.evaluation, data.evaluation_samples, labelled=True)
    if data.metric not in metrics.METRICS:
        raise RecipeError(f"data.metric: unknown metric {data.metric!r}", f"known: {', '.join(metrics.METRICS)}")
    if evaluation.labels is None:
        raise DataError(f"{data.evaluation} has no labels", "a law needs them")
    batches = None
    if data.calibration is not None:
        calibration = open_(data.calibration, data.calibration_samples, labelled=False)
        batches = lambda: calibration.batches(data.batch_size)  # noqa: E731

    def judge(candidate: ir.Model) -> tuple[float, float]:
        opened = session(candidate, threads=1)
        outputs = [opened.run(None, dict(batch))[0] for batch in evaluation.batches(64)]
        score = float(metrics.score(data.metric, np.concatenate(outputs), evaluation.labels))
        good = metrics.higher_is_better(data.metric)
        return (1 - score / 100 if good else score), score

    return _Subject(model, batches, judge)


def _inputs(model: ir.Model) -> dict[str, InputSpec]:
    found = {}
    for value in model.graph.inputs:
        if not value.is_initializer():
            assert value.dtype is not None
            shape: list[int | str] = [d if isinstance(d, int) else str(d) for d in value.shape or ()]
            found[str(value.name)] = InputSpec(shape, value.dtype.numpy().name)  # type: ignore[arg-type]
    return found


def _bits(model: ir.Model, rounded: Rounded) -> tuple[int, int]:
    """Numbers in the model, and bits for them in all: integers, scales of 32 bits, zero points, the rest in 32 bits."""
    parameters = bits = 0
    for name, value in model.graph.initializers.items():
        tensor = rounded.plan.tensors.get(name)
        if value.dtype != ir.DataType.FLOAT or value.const_value is None or name.startswith(_DERIVED):
            continue
        count = value.const_value.size
        parameters += count
        if tensor is None or (tensor.qparams is None and tensor.kept == "float32"):
            bits += 32 * count
        elif tensor.qparams is None:
            bits += 16 * count
        else:
            scheme = tensor.qparams.scheme
            zeros = 0 if scheme.symmetric else scheme.bits
            bits += scheme.bits * count + (32 + zeros) * tensor.qparams.scale.size
    return parameters, bits
