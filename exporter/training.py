"""The stages of the line that learn: pruning and training in float after it; training on integers after rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from exporter.errors import DataError, MissingError, RecipeError
from exporter.quantization import Progress, Quantized
from exporter.recipe import Finetune, Quantize, Recipe, with_overrides
from exporter.subject import Subject
from exporter.types import Plan, Rounded

if TYPE_CHECKING:
    from exporter.finetune import History, Trained
    from exporter.pruning import Pruning

__all__ = ["Slim", "finetuned", "pruned", "quantize_wishes", "refuse"]

_JUDGED = 512  # samples that channels are judged by
_EACH = 8  # of them at a time


@dataclass(frozen=True, slots=True, eq=False)
class Slim:
    """The float graph to quantize. masks: by weight name, False where it stays zero; facts: None if not pruned."""

    model: ir.Model
    masks: Mapping[str, Any] = field(default_factory=dict)
    facts: Pruning | None = None
    histories: tuple[History, ...] = ()


def refuse(recipe: Recipe, *, trained: bool, calibrated: bool) -> None:
    """Raise for wishes of [prune] and [finetune] that do not go together."""
    quantize, method = recipe.quantize, recipe.prune.method
    stays = quantize.weights == quantize.activations == "float" and not quantize.override
    widths = {quantize.activations, *(override.activations for override in quantize.override)}
    if trained and recipe.finetune.epochs and "int16" in widths:
        found = "finetune.data with int16 activations, which leave training nothing to win"
        raise RecipeError(found, "leave it out, or set finetune.epochs = 0")
    if trained and stays and method is None:
        raise RecipeError("finetune.data with a model that stays in float", "set quantize.weights, or leave it out")
    if method == "channels" and not calibrated:
        raise RecipeError('prune.method = "channels" without data.calibration', "samples tell which channels matter")
    if method not in {None, "channels"} and quantize.rounder not in {"auto", "nearest", "mse"}:
        found = f"quantize.rounder = {quantize.rounder!r} with prune.method = {method!r}"
        raise RecipeError(found, 'it moves weights that must stay zero; use "nearest", "mse" or "auto"')


def quantize_wishes(recipe: Recipe) -> Quantize:
    """Of pruned weights zeros must stay zeros, which rounders that look at a whole layer do not promise."""
    if recipe.prune.method in {None, "channels"} or recipe.quantize.rounder != "auto":
        return recipe.quantize
    return with_overrides(recipe, {"quantize.rounder": "mse"}).quantize


def pruned(recipe: Recipe, model: ir.Model, subject: Subject, progress: Progress) -> Slim:
    """The float graph with fewer weights, trained after it where there are samples to train on."""
    if recipe.prune.method is None:
        return Slim(model)
    try:
        from exporter.pruning import prune
    except ImportError as error:
        raise _missing("pruning") from error
    progress("prune", 0, None)
    found = prune(model, recipe.prune, _judges(subject), seed=recipe.seed)
    if subject.training is None or recipe.prune.epochs == 0:
        return Slim(found.model, found.masks, found.facts)
    wishes = _with_epochs(recipe.finetune, recipe.prune.epochs)
    trained, history = _train(
        recipe, wishes, found.model, Rounded(Plan({}), {}), found.masks, model, subject, progress, "prune"
    )
    return Slim(trained.model, found.masks, found.facts, (history,))


def finetuned(
    recipe: Recipe, teacher: ir.Model, found: Quantized, slim: Slim, subject: Subject, progress: Progress
) -> tuple[Quantized, tuple[History, ...]]:
    """Weights, scales and integers as training leaves them, and how each training went."""
    if subject.training is None or recipe.finetune.epochs == 0 or not found.rounded.plan.tensors:
        return found, slim.histories
    trained, history = _train(
        recipe, recipe.finetune, found.model, found.rounded, slim.masks, teacher, subject, progress, "finetune"
    )
    return Quantized(trained.model, found.stats, trained.rounded, found.idle_passes), (*slim.histories, history)


def _train(
    recipe: Recipe,
    wishes: Finetune,
    model: ir.Model,
    rounded: Rounded,
    masks: Mapping[str, Any],
    teacher: ir.Model,
    subject: Subject,
    progress: Progress,
    stage: str,
) -> tuple[Trained, History]:
    try:
        from exporter.finetune import finetune
    except ImportError as error:
        raise _missing("fine-tuning") from error
    if subject.training is None:
        raise DataError("no samples to train on", "give finetune.data")
    place = None if wishes.checkpoint is None else subject.base / wishes.checkpoint
    if place is not None and stage != "finetune":
        place = place.with_name(f"{place.stem}.{stage}{place.suffix}")
    return finetune(
        model,
        rounded,
        subject.training,
        wishes,
        teacher=teacher,
        metric=recipe.data.metric,
        evaluation=subject.evaluation,
        masks=masks,
        checkpoint=place,
        progress=progress,
        stage=stage,
        seed=recipe.seed,
    )


def _with_epochs(wishes: Finetune, epochs: int) -> Finetune:
    given = {name: getattr(wishes, name) for name in wishes.__struct_fields__}
    return Finetune(**{**given, "epochs": epochs})


def _judges(subject: Subject) -> Iterator[Mapping[str, Any]]:
    """The samples that channels are judged by; none without calibration samples."""
    if subject.calibration is not None:
        yield from subject.calibration.batches(_EACH, _JUDGED)


def _missing(what: str) -> MissingError:
    return MissingError(f"{what} needs PyTorch, which is not installed", "pip install 'kbit[torch]'")
