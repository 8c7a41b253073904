"""Results of search, sweep, tune and law as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.cli.cells import decimal, empty_table, file_size
from exporter.units import predicted_latency

if TYPE_CHECKING:
    from rich.console import RenderableType

    from exporter.law import Law
    from exporter.search import Search
    from exporter.sweeping import Sweep
    from exporter.tuning import Tuning

__all__ = ["law", "search", "sweep", "tuning"]


def law(found: Law) -> RenderableType:
    """Every point; those on the frontier are marked."""
    table = empty_table("model", "bits", "group", "rounder", "weights", "file", "loss", "metric", "frontier")
    best = {result.key for result in found.frontier}
    for result in found.results:
        row = result.member, result.bits, str(result.group or "channel"), result.rounder
        sizes = file_size(result.weight_bits / 8), file_size(result.file_bytes)
        figures = decimal(result.loss, 4), decimal(result.metric, 4)
        table.add_row(*row, *sizes, *figures, "*" if result.key in best else "")
    return table


def search(found: Search) -> list[RenderableType]:
    """The plan against uniform widths, and what each layer got."""
    timed = found.target is not None
    figures = ("weights", *(["latency"] if timed else []), "rounded apart", "as exported", "metric")
    table = empty_table("plan", *figures, right=figures)
    rows = {f"all {width}": point for width, point in found.uniform.items()} | {"found": found.best}
    for name, point in sorted(rows.items(), key=lambda row: (row[1].bytes, row[0])):
        made = (
            ("", "")
            if point.shipped is None
            else (decimal(point.shipped.divergence, 5), decimal(point.shipped.metric, 2))
        )
        latency = [f"{point.time:.3f}"] if point.time is not None else []
        table.add_row(name, file_size(point.bytes), *latency, decimal(point.divergence, 5), *made)
    layers = empty_table("layer", "values", "width", *(f"alone at {w}" for w in found.uniform))
    for layer, width in zip(found.layers, found.best.widths, strict=True):
        alone = [decimal(layer.choices[w].alone.divergence, 5) for w in found.uniform]
        layers.add_row(layer.weight, f"{layer.values:,}", width, *alone)
    note = "divergence from the float model, on calibration samples; metric: as exported, on evaluation samples"
    budget = file_size(found.budget) if found.target is None else predicted_latency(found.budget, found.target)
    return [layers, table, f"budget {budget}; {len(found.points)} plans compared", note]


def sweep(found: Sweep) -> list[RenderableType]:
    """One row for each file."""
    table = empty_table("weights", "group", "rounder", "artifact", "size", found.metric, "drop", "p50 ms")
    whole = found.float
    table.add_row(
        "float", "", "", "", file_size(whole["bytes"]), decimal(whole["metric"], 2), "", decimal(whole["p50_ms"], 3)
    )
    for p in found.points:
        figures = file_size(p.bytes), decimal(p.metric, 2), decimal(p.drop, 2), decimal(p.p50_ms, 3)
        table.add_row(p.width, str(p.group), p.rounder, p.artifact, *figures)
    return [table]


def tuning(found: Tuning) -> list[RenderableType]:
    """The receipts, and the verdict."""
    table = empty_table("step", "verdict", "drop", "points won", "ms added", "bytes added", "s")
    for number, row in enumerate(found.receipts):
        paid = ("", "") if not number or row.bytes is None else (decimal(row.ms, 3), f"{row.bytes:+,}")
        figures = decimal(row.drop, 2), decimal(row.points, 2), *paid
        table.add_row(row.step, row.verdict, *figures, f"{row.seconds:.0f}")
    return [table, *(["passed"] if found.passed else ["NOT passed", *(f"  {reason}" for reason in found.reasons)])]
