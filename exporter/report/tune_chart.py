"""The ladder as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from exporter.report.charts import STYLE, svg

__all__ = ["steps"]

_COLOURS = {"passed": "#009e73", "kept": "#0072b2", "no help": "#bbbbbb", "failed": "#d55e00"}


def steps(receipts: Sequence[Mapping[str, Any]], limit: float | None) -> str:
    """One bar for each step that could be made: green passed, blue kept, grey no help."""
    rows = [row for row in receipts if row["drop"] is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.32 * len(rows) + 0.6))
        height = figure.get_figheight()
        axes = figure.add_axes((0.34, 0.4 / height, 0.6, 1 - 0.5 / height))
        colours = [_COLOURS.get(row["verdict"], "#bbbbbb") for row in rows]
        axes.barh(range(len(rows)), [row["drop"] for row in rows], color=colours, height=0.64)
        axes.set_yticks(range(len(rows)), [row["step"][:44] for row in rows])
        axes.invert_yaxis()
        for place, row in enumerate(rows):
            axes.text(max(row["drop"], 0), place, f" {row['drop']:.2f}", va="center")
        if limit is not None:
            axes.axvline(limit, color=_COLOURS["failed"], linewidth=1.2)
        axes.set_xlabel("points of the metric lost")
        return svg(figure, f"{len(rows)} steps; last: {rows[-1]['step']}, {rows[-1]['drop']:.2f} points lost")
