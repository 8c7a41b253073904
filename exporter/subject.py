"""What a recipe is about, opened: the float graph, the samples to calibrate with, to train on and to judge by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from exporter.data import Dataset, check_labels, open_dataset
from exporter.loading import Parity, load_with_parity
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantization import Batches
from exporter.recipe import InputSpec, Recipe

__all__ = ["Source", "Subject", "open_subject"]


@dataclass(frozen=True, slots=True)
class Source:
    """What a recipe names, or what a caller handed over in memory instead."""

    model: Any
    example_inputs: Any = None
    calibration: Any = None
    evaluation: Any = None
    training: Any = None

    @classmethod
    def of(cls, recipe: Recipe) -> Source:
        return cls(recipe.model, None, recipe.data.calibration, recipe.data.evaluation, recipe.finetune.data)


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """loaded: the graph as its source has it. inputs: its own, dynamic dimensions by name. parity: with torch.

    training  samples to train on; None: nothing is trained
    base      folder that the recipe's relative paths start from
    """

    loaded: ir.Model
    parity: Parity | None
    inputs: Mapping[str, InputSpec]
    calibration: Dataset | None
    evaluation: Dataset | None
    training: Dataset | None = None
    base: Path = Path()

    def prepared(self, *, integer: bool = True) -> ir.Model:
        """A new graph in the forms that planning expects; ``integer=False``: that are fast in float."""
        return prepare(self.loaded, INT8_PASSES if integer else None)

    def batches(self, size: int) -> Batches | None:
        """The calibration samples, anew for each call; None without any."""
        calibration = self.calibration
        return None if calibration is None else lambda: calibration.batches(size)

    def digest(self) -> str:
        """SHA-256 of the graph and of all samples: what was measured with another one may not be reused."""
        found = hashlib.sha256(ir.to_proto(self.loaded).SerializeToString(deterministic=True))
        for data in (self.calibration, self.evaluation, self.training):
            if data is not None:
                data.print_into(found)
        return found.hexdigest()

    def check_evaluation(self, metric: str) -> None:
        """Raise DataError for labels that the metric cannot be measured with: of all samples that have some."""
        known = self.loaded.graph.outputs[0].shape
        shape = [d if isinstance(d, int) else None for d in known or ()]
        for data in (self.evaluation, self.calibration, self.training):
            asked = data is self.evaluation or metric != "spearman"  # whose pairs are of no use elsewhere
            if data is not None and data.labels is not None and asked:
                check_labels(data.labels, metric, shape, data.where)


def open_subject(recipe: Recipe, base: Path, source: Source | None = None) -> Subject:
    """Raises KbitError for a model or data that do not open or do not fit each other."""
    source = source or Source.of(recipe)
    loaded = load_with_parity(source.model, base=base, example_inputs=source.example_inputs, seed=recipe.seed)
    inputs, data = _inputs(loaded.model), recipe.data

    def samples(given: Any, limit: int, *, labelled: bool) -> Dataset | None:
        if given is None:
            return None
        specs = data.preprocess
        return open_dataset(given, inputs, specs, base=base, limit=limit, labelled=labelled, seed=recipe.seed)

    calibration = samples(source.calibration, data.calibration_samples, labelled=False)
    evaluation = samples(source.evaluation, data.evaluation_samples, labelled=True)
    training = samples(source.training, recipe.finetune.samples, labelled=False)
    return Subject(loaded.model, loaded.parity, inputs, calibration, evaluation, training, base)


def _inputs(model: ir.Model) -> dict[str, InputSpec]:
    found = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        assert value.name is not None
        assert value.dtype is not None
        shape: list[int | str] = [d if isinstance(d, int) else str(d) for d in value.shape or ()]
        found[value.name] = InputSpec(shape, value.dtype.numpy().name)  # type: ignore[arg-type]
    return found
