"""Latency with its intervals, where it goes, and how it moves under a long load, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from exporter.report.charts import COLOURS, STYLE, svg

__all__ = ["curve", "intervals", "kernels"]

_LINE, _RANGE, _INK = "#0072b2", "#d55e00", "#808080"
_KINDS = {"integer": "#0072b2", "float": "#d55e00", "boundary": "#e69f00", "layout": "#cc79a7"}
_SHOWN = 10


def intervals(artifacts: Mapping[str, Mapping[str, Any]]) -> str:
    """Median latency of each artifact with its 95 % interval, from 0 on."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.34 * len(artifacts) + 0.62))
        height = figure.get_figheight()
        axes = figure.add_axes((0.16, 0.42 / height, 0.82, 1 - 0.5 / height))
        for place, (name, facts) in enumerate(artifacts.items()):
            colour = COLOURS.get(name, _LINE)
            axes.plot([facts["low"], facts["high"]], [place, place], color=colour, linewidth=5, alpha=0.4)
            axes.plot(facts["p50"], place, "o", color=colour, markersize=5)
            _label(axes, facts["high"], place, f"{facts['p50']:.4g}")
        axes.set_yticks(range(len(artifacts)), list(artifacts))
        axes.set_ylim(len(artifacts) - 0.5, -0.5)
        axes.set_xlim(0, 1.12 * max(facts["high"] for facts in artifacts.values()))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.25)
        axes.set_xlabel("ms; dot: median, bar: 95 % interval")
        text = "; ".join(f"{n} {f['p50']:.4g} ms ({f['low']:.4g} to {f['high']:.4g})" for n, f in artifacts.items())
        return svg(figure, f"median latency: {text}")


def kernels(rows: Sequence[Mapping[str, Any]]) -> str:
    """Where the time of one inference goes, by kind of kernel, those that take most first."""
    shown = rows[:_SHOWN]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.26 * len(shown) + 0.62))
        height = figure.get_figheight()
        axes = figure.add_axes((0.27, 0.42 / height, 0.64, 1 - 0.5 / height))
        axes.barh(range(len(shown)), [row["ms"] for row in shown], color=[_KINDS[r["kind"]] for r in shown], height=0.7)
        axes.set_yticks(range(len(shown)), [f"{row['count']} x {row['op']}" for row in shown])
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("ms; blue integer, red float, orange quantize or dequantize, pink layout", fontsize=8)
        for place, row in enumerate(shown):
            _label(axes, row["ms"], place, f"{100 * row['share']:.1f} %")
        return svg(figure, "; ".join(f"{r['op']} {100 * r['share']:.0f} % ({r['kind']})" for r in shown))


def curve(found: Mapping[str, Any]) -> str:
    """Latency without a pause over time, with the temperature where it is known, and the knee."""
    rows = found["rows"]
    times = [row["at_s"] for row in rows]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.4))
        axes = figure.add_axes((0.07, 0.2, 0.86, 0.74))
        axes.plot(times, [row["median_ms"] for row in rows], color=_LINE, linewidth=1.4)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("s")
        axes.set_ylabel("ms (blue)")
        if all(row["temperature_c"] is not None for row in rows):
            other = axes.twinx()
            other.plot(times, [row["temperature_c"] for row in rows], color=_RANGE, linewidth=1.2)
            other.set_ylabel("°C (orange)")
        knee = "no knee"
        if found["knee"] is not None:
            axes.axvline(times[found["knee"]], color=_INK, linestyle="--")
            knee = f"knee at {times[found['knee']]:.0f} s"
        return svg(figure, f"latency of {found['artifact']} over {times[-1]:.0f} s without a pause; {knee}")


def _label(axes: Any, x: float, y: float, text: str) -> None:
    axes.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center")
