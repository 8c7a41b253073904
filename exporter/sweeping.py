"""What each bit costs: the same recipe at every width, measured as files."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from exporter import pipeline
from exporter.errors import DataError, RecipeError
from exporter.files import write_whole
from exporter.journal import Journal
from exporter.pipeline import Progress, quiet
from exporter.recipe import Recipe, to_dict, with_overrides
from exporter.subject import Subject

__all__ = ["Point", "Sweep", "parse_bits", "sweep"]

_WIDTHS = {"1": "binary", "1.58": "ternary", **{str(bits): f"int{bits}" for bits in range(2, 9)}}


@dataclass(frozen=True, slots=True)
class Point:
    """One artifact of one setting, as the bundle's checker measured it. group: values to a scale, channel or tensor."""

    width: str
    group: int | str
    rounder: str
    artifact: str
    bytes: int
    metric: float | None
    drop: float | None
    p50_ms: float | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """``float``: bytes, metric and p50_ms of the float model. points in the order asked for."""

    metric: str
    float: dict[str, Any]
    points: Sequence[Point]

    def to_json(self) -> str:
        """sweep.json."""
        return json.dumps(asdict(self), indent=1) + "\n"


def parse_bits(text: str) -> list[str]:
    """ "1..8", "2,4,8" or "1,1.58,2..4" -> names of widths. Raises RecipeError."""
    found: list[str] = []
    for part in text.replace(" ", "").split(","):
        ends = re.fullmatch(r"(\d)\.\.(\d)", part)
        some = [str(b) for b in range(int(ends[1]), int(ends[2]) + 1)] if ends else [part]
        for bits in some or [part]:
            if bits not in _WIDTHS:
                raise RecipeError(
                    f"--bits {text}: {bits!r} is no width", f"known: {', '.join(_WIDTHS)}, as in 1..8 or 2,4"
                )
            found.append(_WIDTHS[bits])
    return list(dict.fromkeys(found))


def sweep(
    recipe: Recipe,
    subject: Subject,
    widths: Sequence[str],
    *,
    out: Path,
    groups: Sequence[int] = (),
    rounders: Sequence[str] = (),
    progress: Progress = quiet,
) -> Sweep:
    """Every width with every group and rounder, one after the other, so that latencies do not disturb each other.

    widths            names as in quantize.weights           out  folder for sweep.json; what it knows is not made again
    groups, rounders  as in quantize.granularity and quantize.rounder; none: the recipe's own
    Raises DataError without evaluation samples, and whatever a run raises.
    """
    if subject.evaluation is None:
        raise DataError("a sweep needs data.evaluation", "it is what the metric is measured on")
    body = to_dict(recipe)
    fixed = {key: value for key, value in body.items() if key not in {"gates", "name"}}
    journal = Journal(out, json.dumps({"recipe": fixed, "data": subject.digest()}, sort_keys=True))
    grains: Sequence[int | str] = groups or [recipe.quantize.granularity]
    names = rounders or [recipe.quantize.rounder]
    settings = [(width, grain, name) for name in names for grain in grains for width in widths]
    # all are looked at before the first is made
    wanted = [with_overrides(recipe, _changes(recipe, setting)) for setting in settings]
    points: list[Point] = []
    whole: dict[str, Any] = {}
    for done, (setting, one) in enumerate(zip(settings, wanted, strict=True)):
        progress("sweep", done, len(settings))
        key = list(setting)
        if key not in journal:
            journal.add(key, _measured(one, subject, setting[0]))
        artifacts = journal[key]
        whole = whole or artifacts["float"]
        points += [Point(*setting, name, **facts) for name, facts in artifacts.items() if name != "float"]
    found = Sweep(recipe.data.metric, whole, points)
    write_whole(out / "sweep.json", found.to_json())
    return found


def _changes(recipe: Recipe, setting: tuple[str, int | str, str]) -> dict[str, Any]:
    keys = "quantize.weights", "quantize.granularity", "quantize.rounder"
    changes = {**dict(zip(keys, setting, strict=True)), "gates": None}
    if recipe.finetune.checkpoint is not None:  # each setting is a training of its own
        place = PurePath(recipe.finetune.checkpoint)
        own = place.with_name(f"{place.stem}.{'-'.join(map(str, setting))}{place.suffix}")
        changes["finetune.checkpoint"] = own.as_posix()
    return changes


def _measured(recipe: Recipe, subject: Subject, width: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        made = pipeline.build(recipe, subject, out=Path(scratch) / "bundle", proofs=False)
    found = {}
    for name, facts in made.check["artifacts"].items():
        if facts.get("errors"):
            raise DataError(f"{width}, {name}: {facts['errors'][0]}")
        figures = {"metric": facts.get("metric"), "drop": facts.get("drop")}
        found[name] = {"bytes": facts["bytes"], **figures, "p50_ms": (facts.get("latency_ms") or {}).get("p50")}
    return found
