"""What a search found as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from exporter.report.charts import STYLE, svg

__all__ = ["front", "sensitivity"]

_LINE, _BEST, _OTHER = "#0072b2", "#d55e00", "#808080"


def front(found: Mapping[str, Any]) -> str:
    """Divergence against bytes, or predicted latency: all plans, the front, uniform widths, and the plan taken."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.6))
        axes = figure.add_axes((0.09, 0.14, 0.88, 0.83))
        everything, best = found["points"], found["best"]
        axes.plot(*_places(everything), marker="o", linestyle="", markersize=3, color=_OTHER, alpha=0.35)
        axes.plot(*_places(found["front"]), marker="o", linewidth=1.4, markersize=4, color=_LINE)
        for width, point in found["uniform"].items():
            axes.plot(*_places([point]), "s", color=_OTHER, markersize=5)
            (x,), (y,) = _places([point])
            axes.annotate(f" all {width}", (x, y), fontsize=8)
        axes.plot(*_places([best]), "o", markersize=10, markerfacecolor="none", color=_BEST)
        axes.set_yscale("log")
        timed = best["time"] is not None
        axes.set_xlabel("latency, predicted; 1: float" if timed else "weights with scales and zero points, kB")
        axes.set_ylabel("divergence")
        axes.grid(alpha=0.2)
        return svg(figure, f"{len(found['points'])} plans; taken: {best['bytes']} bytes, {best['divergence']:.4g}")


def _places(points: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Where they lie; a divergence of 0 at the foot of the logarithmic axis."""
    across = [p["bytes"] / 1e3 if p["time"] is None else p["time"] for p in points]
    return across, [max(p["divergence"], 1e-9) for p in points]


def sensitivity(found: Mapping[str, Any]) -> str:
    """A line for each width along the layers."""
    layers, widths = found["layers"], list(found["uniform"])
    shades = mpl.colormaps["viridis"](np.linspace(0.05, 0.9, len(widths)))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.0))
        axes = figure.add_axes((0.09, 0.16, 0.8, 0.8))
        for shade, width in zip(shades, widths, strict=True):
            values = [max(layer["choices"][width]["alone"]["divergence"], 1e-12) for layer in layers]
            axes.plot(range(len(layers)), values, color=shade, marker="o", markersize=3, linewidth=1.2, label=width)
            taken = [i for i, got in enumerate(found["best"]["widths"]) if got == width]
            axes.plot(taken, [values[i] for i in taken], "o", markersize=8, markerfacecolor="none", color=_BEST)
        axes.set_yscale("log")
        axes.set_xlabel("layer, in graph order")
        axes.set_ylabel("divergence")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
        return svg(figure, f"divergence of {len(layers)} layers, each alone, at {', '.join(widths)}")
