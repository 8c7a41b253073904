"""sweep.json -> sweep.html: the metric against bytes, a line for each way of rounding and grouping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter.report.needs import the_extra
from exporter.report.sheet import number, write_sheet

__all__ = ["render_sweep"]


def render_sweep(folder: Path, found: Mapping[str, Any]) -> Path:
    """Write the page and return its path. Raises MissingError without the extra ``report``."""
    with the_extra():
        from exporter.report.sweep_chart import sweep
    head = ["Weights", "Group", "Rounder", "Artifact", "Bytes", "Metric", "Drop", "p50, ms"]
    rows = []
    for p in found["points"]:
        figures = f"{p['bytes']:,}", number(p["metric"]), number(p["drop"]), number(p["p50_ms"], 3)
        rows.append([p["width"], str(p["group"]), p["rounder"], p["artifact"], *figures])
    figure = ("Dashed: the float model", sweep(found))
    says = f"{found['metric']} against the bytes of the files, measured by the bundle's checker."
    return write_sheet(folder / "sweep.html", "What each bit costs", says, [figure], head, rows)
