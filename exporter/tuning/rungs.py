"""The remedies, cheapest first. Each rung gives steps: changes to the recipe that are tried one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from exporter.explaining import shares
from exporter.quantization import quantize
from exporter.recipe import SEEING_SAMPLES, Recipe, to_dict
from exporter.search import Budget, search
from exporter.subject import Subject

__all__ = ["RUNGS", "Place", "Rung", "Step"]

Progress = Callable[[str, int, int | None], None]
_SAMPLES, _BATCH = 128, 16
_FULL = {"int8", "float", "float16"}


@dataclass(frozen=True, slots=True)
class Step:
    """changes: dotted keys of the recipe."""

    name: str
    changes: Mapping[str, Any]


class Place:
    """Where on the ladder we are: the best recipe so far. Guilty layers are looked for once for each such recipe."""

    def __init__(self, recipe: Recipe, subject: Subject, scratch: Path, progress: Progress) -> None:
        self.recipe, self.subject, self.scratch, self.progress = recipe, subject, scratch, progress

    def move(self, recipe: Recipe) -> None:
        """A better one was found; what the rung that found it tries next builds upon it."""
        self.recipe = recipe
        self.__dict__.pop("guilty", None)

    @cached_property
    def ops(self) -> set[str]:
        return {node.op_type for node in self.subject.loaded.graph}

    @cached_property
    def guilty(self) -> Sequence[tuple[str, str]]:
        """(node, weight) of every layer, the one with the largest share first."""
        recipe, data = self.recipe, self.subject.evaluation or self.subject.calibration
        assert data is not None
        batches = self.subject.batches(recipe.data.batch_size)
        found = quantize(self.subject.prepared(), recipe.quantize, batches, progress=self.progress, seed=recipe.seed)
        taken = list(data.batches(_BATCH, _SAMPLES))
        told = lambda done, total: self.progress("look for the guilty layers", done, total)  # noqa: E731
        parts, whole = shares(found, taken, None, recipe.data.metric, progress=told)
        parts.sort(key=lambda part: -(part.alone + whole - part.without))
        return [(part.node, part.weight) for part in parts]


Rung = Callable[[Place], Iterator[Step]]


def observers(place: Place) -> Iterator[Step]:
    """Another way from what calibration saw to a range."""
    now = place.recipe.quantize
    if now.activations == "int8":
        for name in ("mse", "percentile", "minmax"):
            if name != now.observer:
                yield Step(f"observer {name}", {"quantize.observer": name})


def clipping(place: Place) -> Iterator[Step]:
    """Weight scales of least squared error."""
    now = place.recipe.quantize
    if now.rounder == "nearest" or (now.rounder == "auto" and now.weights in {"int8", "int7"}):
        yield Step("weights clipped (mse)", {"quantize.rounder": "mse"})


def weight_passes(place: Place) -> Iterator[Step]:
    """Equalization for convolutions, SmoothQuant and a Hadamard rotation for linear layers."""
    for name, ops in (("equalize", {"Conv"}), ("smooth", {"MatMul", "Gemm"}), ("rotate", {"MatMul", "Gemm"})):
        if ops & place.ops and name not in place.recipe.quantize.passes:
            yield Step(f"pass {name}", {"quantize.passes": [*place.recipe.quantize.passes, name]})


def bias_correction(place: Place) -> Iterator[Step]:
    """Of layers that are rounded without data."""
    now = place.recipe.quantize
    seeing = now.rounder in SEEING_SAMPLES or (now.rounder == "auto" and now.weights not in {"int8", "int7"})
    if not seeing and not now.bias_correction and place.subject.calibration is not None:
        yield Step("bias correction", {"quantize.bias_correction": True})


def rounding_by_data(place: Place) -> Iterator[Step]:
    """Layer after layer, with the bias corrected; then learned, at last a whole block together."""
    if place.subject.calibration is not None:
        ways = [("gptq", "GPTQ, bias corrected"), ("adaround", "AdaRound, bias corrected")]
        few = place.recipe.quantize.weights not in _FULL and place.recipe.quantize.activations != "int16"
        if few and find_spec("torch") is not None:
            ways.append(("brecq", "block reconstruction (BRECQ)"))
        for name, says in ways:
            now = place.recipe.quantize.rounder
            if now != name and not (name == "gptq" and now == "auto" and place.recipe.quantize.weights not in _FULL):
                yield Step(says, {"quantize.rounder": name})


def wider(place: Place) -> Iterator[Step]:
    """int8 weights for the layers with the largest shares."""
    if place.recipe.quantize.weights not in _FULL:
        for names in _growing([weight for _, weight in place.guilty]):
            some = [{"match": _escaped(name), "weights": "int8"} for name in names]
            yield Step(f"int8 for {_words(names)}", {"quantize.override": [*_overrides(place), *some]})


def in_float(place: Place) -> Iterator[Step]:
    """The layers with the largest shares in float."""
    for names in _growing([node for node, _ in place.guilty]):
        kept = list(dict.fromkeys([*place.recipe.quantize.keep_float, *map(_escaped, names)]))
        yield Step(f"float for {_words(names)}", {"quantize.keep_float": kept})


def mixed_precision(place: Place) -> Iterator[Step]:
    """Bits by layer, for half a bit more on average, and for one."""
    width = place.recipe.quantize.weights
    if not width.removeprefix("int").isdigit() or width == "int8" or place.subject.calibration is None:
        return
    for more in (0.5, 1.0):
        budget = Budget(average=int(width.removeprefix("int")) + more)
        out = place.scratch / "search"
        found = search(place.recipe, place.subject, budget, out=out, progress=place.progress)
        changes = {"quantize.override": [*_overrides(place), *found.overrides()]}
        yield Step(f"mixed precision, {more:g} bits more on average", changes)


RUNGS: Sequence[Rung] = (
    observers,
    clipping,
    weight_passes,
    bias_correction,
    rounding_by_data,
    wider,
    in_float,
    mixed_precision,
)


def _growing(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """1, 2, 4, 8 … of them, up to a third."""
    for count in 2 ** np.arange(8):
        if count <= max(len(names) // 3, 1):
            yield names[: int(count)]


def _overrides(place: Place) -> list[dict[str, Any]]:
    return [to_dict(each) for each in place.recipe.quantize.override]


def _escaped(name: str) -> str:
    return name.replace("[", "[[]")


def _words(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"the {len(names)} layers with the largest shares"
