"""All points of the law, on as many processes as asked for; what is there already is not measured again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exporter import user_code
from exporter.errors import RecipeError
from exporter.files import write_whole
from exporter.law.fit import Fit, fit, frontier
from exporter.law.measure import measure
from exporter.law.store import Store
from exporter.law.types import WIDTHS, Member, Point, Result
from exporter.recipe import Recipe, is_callable_name, to_dict
from exporter.workers import open_executor

__all__ = ["Law", "run_law"]

Progress = Callable[[str, int, int | None], None]
_HELD = {".json", ".safetensors"}  # of a checkpoint folder


@dataclass(frozen=True, slots=True)
class Law:
    """results in the order of the recipe; fits by (group, rounder); best: what to take, by file size asked for.

    unmet  file sizes asked for that nothing fits in
    """

    results: Sequence[Result]
    fits: dict[tuple[int, str], Fit]
    frontier: Sequence[Result]
    best: dict[int, Result]
    unmet: Sequence[int] = ()

    def to_json(self) -> str:
        """law.json."""
        body = {
            "results": [result.row() for result in self.results],
            "fits": [{"group": g, "rounder": r, **asdict(f), "best": f.best} for (g, r), f in self.fits.items()],
            "frontier": [result.row() for result in self.frontier],
            "best": [{"budget": budget, **result.row()} for budget, result in self.best.items()],
            "unmet": list(self.unmet),
        }
        return json.dumps(body, indent=1) + "\n"


def run_law(
    recipe: Recipe,
    *,
    base: Path,
    out: Path,
    progress: Progress = lambda stage, done, total: None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Law:
    """Measure what is missing in ``out``, write law.json there, and return the whole.

    workers    processes on this machine; None: one for each core
    scheduler  address of a Dask scheduler, whose workers see the same files and have kbit installed
    Raises KbitError for whatever the user must change.
    """
    points = _points(recipe)
    body = to_dict(recipe)
    store = Store(out, json.dumps({"recipe": _settings(body), "data": _hashes(recipe, base)}, sort_keys=True))
    missing = [point for point in points if point.key not in store.results]
    done = len(points) - len(missing)
    progress("measure", done, len(points))
    with open_executor(workers, scheduler, len(missing)) as executor:
        running = {executor.submit(measure, body, str(base.resolve()), point): point for point in missing}
        try:
            for future in as_completed(running):
                store.add(future.result())
                done += 1
                progress("measure", done, len(points))
        except BaseException:
            for future in running:
                future.cancel()
            raise
    results = [store.results[point.key] for point in points]
    best = _best(results, recipe.law.budgets)
    unmet = [budget for budget in recipe.law.budgets if budget not in best]
    law = Law(results, _fits(results), frontier(results), best, unmet)
    write_whole(out / "law.json", law.to_json())
    return law


def _points(recipe: Recipe) -> list[Point]:
    law = recipe.law
    if not law.members:
        raise RecipeError(
            "law.members is missing", "name the models of the family: checkpoint folders or module:callable"
        )
    if law.checkpoints and len(law.checkpoints) != len(law.members):
        found = f"law.checkpoints has {len(law.checkpoints)} entries, law.members {len(law.members)}"
        raise RecipeError(found, "one checkpoint for each member")
    if recipe.data.evaluation is None:
        raise RecipeError("data.evaluation is missing", "quality is measured on it")
    names = [Path(source.rpartition(":")[2]).name for source in law.members]
    checkpoints: Sequence[str | None] = law.checkpoints or [None] * len(law.members)
    members = [Member(*each) for each in zip(names, law.members, checkpoints, strict=True)]
    widths = [f"{bits:g}" for bits in law.bits]
    for width in widths:
        if width not in WIDTHS:
            raise RecipeError(f"law.bits: {width} is no width", f"known: {', '.join(WIDTHS)}")
    rounder = recipe.quantize.rounder
    points = [Point(m, bits, group, rounder) for m in members for group in law.groups for bits in widths]
    whole = law.groups[0]  # 16 bits have no groups
    return [point for point in points if point.bits != "16" or point.group == whole]


def _settings(body: dict[str, Any]) -> dict[str, Any]:
    """What changes a measurement; which points are asked for does not."""
    return {key: value for key, value in body.items() if key not in {"law", "gates", "targets", "name", "model"}} | {
        "inputs": body.get("model", {}).get("inputs")
    }


def _hashes(recipe: Recipe, base: Path) -> dict[str, str]:
    """SHA-256 of every file that goes in.

    Of a folder of data all, of a checkpoint folder its weights (all shards) and settings, of net.py:build or net:build
    net.py; what that imports in its turn is not looked at.
    """
    data = {recipe.data.calibration, recipe.data.evaluation}
    found = {}
    for name in (each for each in (*data, *recipe.law.checkpoints, *recipe.law.members) if each is not None):
        code = ".py:" in name or is_callable_name(name)
        place, whole = (name.rpartition(":")[0], user_code.file_of(name, base)) if code else (name, base / name)
        inside = [whole]
        if whole.is_dir():
            inside = list(whole.rglob("*")) if name in data else [p for p in whole.iterdir() if p.suffix in _HELD]
        for path in (p for p in inside if p.is_file()):
            with path.open("rb") as file:
                key = place if path is whole else f"{name}/{path.relative_to(whole).as_posix()}"
                found[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _fits(results: Sequence[Result]) -> dict[tuple[int, str], Fit]:
    kinds = dict.fromkeys((r.group, r.rounder) for r in results)
    whole = [r for r in results if r.bits == "16"]
    found = {}
    for group, rounder in kinds:
        curve = fit([*(r for r in results if (r.group, r.rounder) == (group, rounder) and r.bits != "16"), *whole])
        if curve is not None:
            found[group, rounder] = curve
    return found


def _best(results: Sequence[Result], budgets: Sequence[int]) -> dict[int, Result]:
    """Of what fits in each budget, the lowest loss. Without budgets: powers of two between smallest and largest."""
    sizes = [r.file_bytes for r in results]
    if not budgets and sizes:
        budgets = [1 << n for n in range(10, 41) if min(sizes) <= 1 << n and 1 << (n - 1) < max(sizes)]
    found = {}
    for budget in budgets:
        fitting = [r for r in results if r.file_bytes <= budget]
        if fitting:
            found[budget] = min(fitting, key=lambda r: (r.loss, r.file_bytes))
    return found
