"""The search: measure each layer alone, spread the budget, improve the plan as a whole, and let the best be made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from exporter.calibration import calibrate
from exporter.errors import DataError, RecipeError
from exporter.files import write_whole
from exporter.journal import Journal
from exporter.preparing import condition
from exporter.recipe import Recipe
from exporter.search.allocate import allocate
from exporter.search.kit import layer_names, round_layer, score, score_shipped, write_kit
from exporter.search.latency import BITS, Times, predicted
from exporter.search.types import Budget, Choice, Layer, Point, Score
from exporter.subject import Subject
from exporter.workers import open_executor

__all__ = ["Search", "search"]

Progress = Callable[[str, int, int | None], None]
Spent = Callable[[Choice | Point], int]
_SMALL, _FAST = ("int2", "int3", "int4", "int6", "int8"), ("int8", "float")
_BUDGETS = 7  # between the narrowest and the widest plan
_ROUNDS = 4
_JUDGED = 8  # points of the front, evenly spread, whose metric is measured
_GROWTHS = (0.0, 1.0, 2.0, 3.0, 4.0)  # of a layer's cost from the first to the last, as a power of e
_SHY = (0.0, 0.5, 1.0, 2.0, 4.0)  # what a changed layer costs extra, in medians of the changes


@dataclass(frozen=True, slots=True)
class Search:
    """layers in graph order; points: every plan that was measured; front: those that no other beats in both.

    budget  in bytes; of latency: in millionths of what the layers take in float on the target
    """

    layers: Sequence[Layer]
    budget: int
    target: str | None
    best: Point
    points: Sequence[Point]
    front: Sequence[Point]
    uniform: Mapping[str, Point]

    def to_json(self) -> str:
        """search.json."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def overrides(self) -> list[dict[str, str]]:
        """The best plan as [[quantize.override]] tables."""
        pairs = zip(self.layers, self.best.widths, strict=True)
        return [{"match": layer.weight.replace("[", "[[]"), "weights": width} for layer, width in pairs]


class _Measured:
    """Asks workers what the journal does not know; answers come in the order of the questions."""

    def __init__(self, folder: str, executor: Executor, journal: Journal, progress: Progress, *, whole: bool) -> None:
        """whole: every plan is made as kbit export makes it."""
        self._folder, self._executor, self._journal, self._progress = folder, executor, journal, progress
        self.whole = whole

    def scores(self, stage: str, plans: Sequence[Mapping[str, str]], which: str = "calibration") -> list[Score]:
        """Of plans, widths by weight."""
        if self.whole:
            return self.shipped(stage, plans)
        return [Score(*each) for each in self.ask(stage, score, [(plan, which) for plan in plans])]

    def shipped(self, stage: str, plans: Sequence[Mapping[str, str]]) -> list[Score]:
        """Of plans made as kbit export makes them."""
        return [Score(*each) for each in self.ask(stage, score_shipped, [(plan,) for plan in plans])]

    def ask(self, stage: str, function: Callable[..., Any], questions: Sequence[tuple[Any, ...]]) -> list[Any]:
        keys = [[function.__name__, *question] for question in questions]
        new = {
            json.dumps(key): question for key, question in zip(keys, questions, strict=True) if key not in self._journal
        }
        done = len(questions) - len(new)
        self._progress(stage, done, len(questions))
        running = {self._executor.submit(function, self._folder, *q): json.loads(key) for key, q in new.items()}
        try:
            for future in as_completed(running):
                self._journal.add(running[future], future.result())
                done += 1
                self._progress(stage, done, len(questions))
        except BaseException:
            for future in running:
                future.cancel()
            raise
        return [self._journal[key] for key in keys]


def search(
    recipe: Recipe,
    subject: Subject,
    budget: Budget,
    *,
    out: Path,
    widths: Sequence[str] | None = None,
    samples: int = 256,
    progress: Progress = lambda stage, done, total: None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Search:
    """The plan whose outputs stay closest to the float model's, within the budget.

    out        folder: kit, journal and search.json; one that holds a journal of the same search is gone on with
    widths     that a layer may have; None: 2 to 8 bits, or int8 and float where the budget is one of latency
    samples    of the calibration set that layers are rounded with; the best is chosen by others, if there are enough;
               the evaluation set is only used to report
    workers    processes on this machine; scheduler: address of a Dask scheduler in their place
    The same recipe, data and widths give the same plan, on however many workers, resumed or not.
    Raises KbitError for whatever the user must change.
    """
    bits = _bits(widths or (_FAST if budget.latency is not None else _SMALL))
    if subject.calibration is None:
        raise DataError("a search needs data.calibration", "plans are compared on its samples")
    subject.check_evaluation(recipe.data.metric)
    progress("prepare", 0, None)
    model = subject.prepared()
    batches = subject.batches(recipe.data.batch_size)
    assert batches is not None
    observe = lambda graph, values: calibrate(graph, batches(), values=values)  # noqa: E731
    model = condition(model, recipe.quantize.passes, observe).model
    names = layer_names(model, recipe.quantize)
    times = None
    if budget.target is not None:
        times = predicted(model, names, list(bits), recipe.quantize, budget.target, budget.runtimes)
    kit = out / "kit"
    heading = write_kit(kit, recipe, model, subject.calibration, subject.evaluation, samples)
    journal = Journal(out, heading)
    with open_executor(workers, scheduler, len(names)) as executor:
        measured = _Measured(str(kit.resolve()), executor, journal, progress, whole=budget.latency is not None)
        layers = _layers(measured, names, model, list(bits), times)
        limit = budget.resolve(layers, bits)
        plans = _Plans(layers, list(bits), measured, budget.spent)
        uniform = {width: plans.measure("uniform widths", [(width,) * len(layers)])[0] for width in bits}
        spent = [budget.spent(point) for point in uniform.values()]
        least, most = min(spent), max(spent)
        steps = [least + (most - least) * i // (_BUDGETS + 1) for i in range(1, _BUDGETS + 1)]
        alone = [[layer.choices[w].alone.divergence for w in bits] for layer in layers]
        spread = [plan for each in [limit, *steps] if (plan := plans.spread(alone, each)) is not None]
        plans.measure("plans by layers", spread)
        finalists = [
            _improved(plans, limit),
            *plans.measure("plans by layers and depth", _by_depth(plans, alone, limit)),
        ]
        best, shipped = _shipped(measured, plans, finalists, uniform.values(), limit)
        front = _front(plans.known.values(), budget.spent)
        some = front[:: -(-len(front) // _JUDGED)]
        shown = list(dict.fromkeys([best, *some, *uniform.values()]))
        judged = dict(zip(shown, _judged(measured, plans, shown, subject.evaluation is not None), strict=True))
    judged = {point: replace(judged[point], shipped=shipped.get(point.widths)) for point in judged}
    found = Search(
        layers,
        limit,
        budget.target,
        judged[best],
        list(plans.known.values()),
        [judged.get(point, point) for point in front],
        {width: judged[point] for width, point in uniform.items()},
    )
    write_whole(out / "search.json", found.to_json())
    return found


def _bits(widths: Sequence[str]) -> dict[str, float]:
    for width in widths:
        if width not in BITS:
            raise RecipeError(f"--widths: {width!r} is no width of weights", f"known: {', '.join(BITS)}")
    return {width: BITS[width] for width in BITS if width in widths}


def _layers(
    measured: _Measured, names: Sequence[str], model: Any, widths: Sequence[str], times: Times | None
) -> list[Layer]:
    rounded = measured.ask("round each layer", round_layer, [(name, list(widths)) for name in names])
    pairs = [(name, width) for name in names for width in widths]
    others = dict.fromkeys(names, "float") if measured.whole else {}
    alone = dict(zip(pairs, measured.scores("each layer alone", [{**others, n: w} for n, w in pairs]), strict=True))
    found = []
    for name, sizes in zip(names, rounded, strict=True):
        took = dict.fromkeys(widths) if times is None else times[name]
        choices = {w: Choice(int(sizes[w][0]), sizes[w][1], alone[name, w], took[w]) for w in widths}
        found.append(Layer(name, int(model.graph.initializers[name].const_value.size), choices))
    return found


class _Plans:
    """Whole plans, each measured once."""

    def __init__(self, layers: Sequence[Layer], widths: Sequence[str], measured: _Measured, spent: Spent) -> None:
        self.layers, self.widths, self._measured, self.spent = layers, widths, measured, spent
        self.known: dict[tuple[str, ...], Point] = {}

    def named(self, plan: Sequence[str]) -> dict[str, str]:
        return {layer.weight: width for layer, width in zip(self.layers, plan, strict=True)}

    def measure(self, stage: str, plans: Iterable[tuple[str, ...]]) -> list[Point]:
        wanted = list(plans)
        new = [plan for plan in dict.fromkeys(wanted) if plan not in self.known]
        for plan, found in zip(new, self._measured.scores(stage, [self.named(plan) for plan in new]), strict=True):
            choices = [layer.choices[width] for layer, width in zip(self.layers, plan, strict=True)]
            times = [choice.time for choice in choices if choice.time is not None]
            size = sum(choice.bytes for choice in choices)
            self.known[plan] = Point(plan, size, found.divergence, time=sum(times) if times else None)
        return [self.known[plan] for plan in wanted]

    def spread(self, costs: Sequence[Sequence[float]], budget: int) -> tuple[str, ...] | None:
        sizes = [[self.spent(layer.choices[w]) for w in self.widths] for layer in self.layers]
        found = allocate(costs, sizes, budget)
        return None if found is None else tuple(self.widths[index] for index in found)


def _improved(plans: _Plans, budget: int) -> Point:
    """From the best known plan: each layer one width up and down, measured in it; then many such changes at once."""

    def best_known() -> Point:
        fitting = [p for p in plans.known.values() if plans.spent(p) <= budget]
        return min(fitting, key=lambda p: (p.divergence, p.bytes, p.widths))

    widths = plans.widths
    for turn in range(_ROUNDS):
        now = best_known()
        moves: dict[tuple[int, int], tuple[str, ...]] = {}
        for place, width in enumerate(now.widths):
            for index in (widths.index(width) - 1, widths.index(width) + 1):
                if 0 <= index < len(widths):
                    moves[place, index] = (*now.widths[:place], widths[index], *now.widths[place + 1 :])
        stage = f"improve the plan, round {turn + 1}"
        changed = dict(zip(moves, plans.measure(stage, moves.values()), strict=True))
        typical = sorted(abs(p.divergence - now.divergence) for p in changed.values())[len(changed) // 2]
        proposals = []
        for shy in _SHY:
            costs = [[0.0 if width == w else float("inf") for w in widths] for width in now.widths]
            for (place, index), point in changed.items():
                costs[place][index] = point.divergence - now.divergence + shy * typical
            proposals.append(plans.spread(costs, budget))
        plans.measure(stage, [plan for plan in dict.fromkeys(proposals) if plan is not None])
        if best_known() == now:
            break
    return best_known()


def _by_depth(plans: _Plans, alone: Sequence[Sequence[float]], budget: int) -> list[tuple[str, ...]]:
    """Plans by what each layer alone costs, if that counts the more the later it is.

    Rounded one after the other, layers make up for the errors of those before them, for the last ones nobody does.
    """
    last = max(len(alone) - 1, 1)
    found = []
    for growth in _GROWTHS:
        costs = [[cost * math.exp(growth * i / last) for cost in row] for i, row in enumerate(alone)]
        found.append(plans.spread(costs, budget))
    return [plan for plan in dict.fromkeys(found) if plan is not None]


def _shipped(
    measured: _Measured, plans: _Plans, finalists: Sequence[Point], uniform: Iterable[Point], budget: int
) -> tuple[Point, Mapping[tuple[str, ...], Score]]:
    """The best of the finalists and the uniform plans within the budget, each made as kbit export makes it."""
    points = list({point.widths: point for point in [*finalists, *uniform] if plans.spent(point) <= budget}.values())
    scores = measured.shipped("finalists, rounded for export", [plans.named(point.widths) for point in points])
    shipped = {point.widths: each for point, each in zip(points, scores, strict=True)}
    best = min(points, key=lambda point: (shipped[point.widths].divergence, point.bytes, point.widths))
    return best, shipped


def _front(points: Iterable[Point], spent: Spent) -> list[Point]:
    """Points that no other beats in what is spent and in divergence both, by what is spent."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (spent(p), p.divergence, p.widths)):
        if not found or point.divergence < found[-1].divergence:
            found.append(point)
    return found


def _judged(measured: _Measured, plans: _Plans, points: Sequence[Point], evaluated: bool) -> list[Point]:
    """With the metric on the evaluation samples."""
    if not evaluated:
        return list(points)
    scores = measured.scores("metric of the front", [plans.named(p.widths) for p in points], "evaluation")
    return [replace(point, metric=each.metric) for point, each in zip(points, scores, strict=True)]
