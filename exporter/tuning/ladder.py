"""Climb: measure a step with the bundle's own checker, keep it if it helps, stop at the first that passes."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from exporter import pipeline
from exporter.errors import DataError, KbitError, RecipeError
from exporter.files import refuse_unwritable, write_whole, writing
from exporter.pipeline import Progress, quiet
from exporter.recipe import Recipe, moved, to_toml, with_overrides
from exporter.subject import Subject
from exporter.tuning.rungs import RUNGS, Place, Rung, Step

__all__ = ["Receipt", "Tuning", "tune"]

_HELPS = 0.05  # points that a step must buy to be kept
_TURNED = 0.005  # share of the samples that two artifacts of a net that is nearly right see differently


@dataclass(frozen=True, slots=True)
class Receipt:
    """One step. Figures are those of the worst artifact; None where the step could not be made.

    points, ms, bytes  against the best before it: points of the metric won, median latency and size added; of the first
                       step latency and size as they are
    verdict            "passed", "failed", "kept", "no help", or why it could not be made
    """

    step: str
    verdict: str
    drop: float | None
    points: float | None
    ms: float | None
    bytes: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """recipe: the best that was found, whether or not it passed. reasons: why it does not."""

    passed: bool
    recipe: Recipe
    receipts: Sequence[Receipt]
    reasons: Sequence[str]

    def to_json(self) -> str:
        """tune.json."""
        receipts = [asdict(receipt) for receipt in self.receipts]
        return json.dumps({"passed": self.passed, "receipts": receipts, "reasons": list(self.reasons)}, indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class _Measured:
    passed: bool
    drop: float
    ms: float
    bytes: int
    reasons: Sequence[str]


def tune(recipe: Recipe, subject: Subject, *, base: Path, out: Path, progress: Progress = quiet) -> Tuning:
    """Write recipe.toml (that ``kbit export`` makes the passing bundle from) and tune.json into ``out``.

    Fine-tuning is left out until the last rung, also where the recipe asks for it.
    Raises DataError without evaluation samples, RecipeError without the gate max_drop, and whatever a run raises.
    """
    if subject.evaluation is None:
        raise DataError("the ladder needs data.evaluation", "it measures every step")
    if recipe.gates.max_drop is None:
        raise RecipeError("the ladder needs gates.max_drop", "how many points of the metric may be lost?")
    refuse_unwritable(out, folder=True)
    started = time.monotonic()
    epochs = recipe.finetune.epochs if recipe.finetune.data is not None else 0
    now = with_overrides(recipe, {"finetune.epochs": 0}) if epochs else recipe
    progress("as it is", 0, None)
    best = _measure(now, subject, progress)
    least = _least(recipe.data.metric, subject.evaluation.count)
    receipts = [
        Receipt(
            "as it is", "passed" if best.passed else "failed", best.drop, None, best.ms, best.bytes, _since(started)
        )
    ]
    with tempfile.TemporaryDirectory() as scratch:
        place = Place(now, subject, Path(scratch), progress)
        rungs: list[Rung] = [*RUNGS, partial(_training, epochs)]
        for rung in rungs:
            if best.passed or best.drop <= recipe.gates.max_drop:  # another gate: no remedy of accuracy helps
                break
            for step in _steps(rung, place):
                started = time.monotonic()
                if isinstance(step, KbitError):
                    receipts.append(Receipt(_name(rung), str(step), None, None, None, None, 0.0))
                    break
                progress(step.name, 0, None)
                wanted = with_overrides(place.recipe, step.changes)
                try:
                    found = _measure(wanted, subject, progress)
                except KbitError as error:
                    receipts.append(Receipt(step.name, str(error), None, None, None, None, _since(started)))
                    continue
                helps = found.passed or found.drop < best.drop - least
                receipts.append(_receipt(step.name, found, best, helps, _since(started)))
                if helps:
                    best = found
                    place.move(wanted)
                if best.passed or best.drop <= recipe.gates.max_drop:
                    break
    tuning = Tuning(best.passed, place.recipe, receipts, best.reasons)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "recipe.toml", to_toml(moved(place.recipe, base, out)))
    write_whole(out / "tune.json", tuning.to_json())
    return tuning


def _steps(rung: Rung, place: Place) -> Iterator[Step | KbitError]:
    """What the rung tries; last the error that keeps it from going on, such as that of a search."""
    try:
        yield from rung(place)
    except KbitError as error:
        yield error


def _name(rung: Rung) -> str:
    return getattr(rung, "__name__", "fine-tuning").replace("_", " ")


def _least(metric: str, count: int) -> float:
    """Points that are more than chance: for top1 and top5 the standard error of a difference (McNemar 1947)."""
    return max(_HELPS, 100 * math.sqrt(_TURNED / count)) if metric in {"top1", "top5"} else _HELPS


def _training(epochs: int, place: Place) -> Iterator[Step]:
    """The recipe's own fine-tuning."""
    if epochs:
        yield Step("fine-tuning", {"finetune.epochs": epochs})


def _measure(recipe: Recipe, subject: Subject, progress: Progress) -> _Measured:
    with tempfile.TemporaryDirectory() as scratch:
        outcome = pipeline.build(recipe, subject, out=Path(scratch) / "bundle", progress=progress, proofs=False)
    rows: Mapping[str, Any] = {name: facts for name, facts in outcome.check["artifacts"].items() if name != "float"}
    broken = [f"{name}: {facts['errors'][0]}" for name, facts in rows.items() if facts.get("errors")]
    if broken:
        raise DataError(broken[0], "look at it with kbit export and kbit check")
    return _Measured(
        bool(outcome.check["passed"]),
        max(float(facts["drop"]) for facts in rows.values()),
        max(float((facts.get("latency_ms") or {}).get("p50") or 0.0) for facts in rows.values()),
        max(int(facts["bytes"]) for facts in rows.values()),
        list(outcome.check["reasons"]),
    )


def _receipt(name: str, found: _Measured, best: _Measured, helps: bool, seconds: float) -> Receipt:
    verdict = "passed" if found.passed else "kept" if helps else "no help"
    paid = found.ms - best.ms, found.bytes - best.bytes
    return Receipt(name, verdict, found.drop, best.drop - found.drop, *paid, seconds)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)
