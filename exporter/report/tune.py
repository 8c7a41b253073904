"""tune.json -> tune.html: the drop after each step of the ladder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter.report.needs import the_extra
from exporter.report.sheet import number, write_sheet

__all__ = ["render_tune"]


def render_tune(folder: Path, found: Mapping[str, Any], limit: float | None) -> Path:
    """Write the page and return its path; ``limit``: the gate max_drop. Raises MissingError without matplotlib."""
    with the_extra():
        from exporter.report.tune_chart import steps
    figure = ("Points of the metric lost after each step; line: what the gate allows", steps(found["receipts"], limit))
    rows = []
    for row in found["receipts"]:
        size = "" if row["bytes"] is None else f"{row['bytes']:,}"
        figures = (number(row[key]) for key in ("drop", "points", "ms"))
        rows.append([row["step"], row["verdict"], *figures, size, f"{row['seconds']:.0f}"])
    head = ["Step", "Verdict", "Drop", "Points won", "ms added", "Bytes added", "Seconds"]
    says = "passed" if found["passed"] else "not passed: " + "; ".join(found["reasons"])
    return write_sheet(folder / "tune.html", "The fix ladder", says, [figure], head, rows)
