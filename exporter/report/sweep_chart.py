"""A sweep as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from exporter.report.charts import STYLE, svg

__all__ = ["sweep"]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def sweep(found: Mapping[str, Any]) -> str:
    """Metric and latency against bytes; solid ONNX Runtime, dotted TFLite."""
    points = [p for p in found["points"] if p["metric"] is not None]
    series = list(dict.fromkeys((p["artifact"], p["group"], p["rounder"]) for p in points))
    kinds = list(dict.fromkeys((group, rounder) for _, group, rounder in series))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.8))
        left, right = figure.add_axes((0.08, 0.13, 0.4, 0.8)), figure.add_axes((0.57, 0.13, 0.4, 0.8))
        for name, group, rounder in series:
            line = [p for p in points if (p["artifact"], p["group"], p["rounder"]) == (name, group, rounder)]
            colour = _COLOURS[kinds.index((group, rounder)) % len(_COLOURS)]
            look = "-" if name == "onnxruntime" else ":"
            label = f"{name}, {rounder}" + (f", {group}" if group != "channel" else "")
            sizes = [p["bytes"] / 1e3 for p in line]
            left.plot(sizes, [p["metric"] for p in line], look, color=colour, marker="o", markersize=4, label=label)
            right.plot(sizes, [p["p50_ms"] for p in line], look, color=colour, marker="o", markersize=4)
            for point, size in zip(line, sizes, strict=True):
                left.annotate(point["width"], (size, point["metric"]), fontsize=7)
        left.axhline(found["float"]["metric"], linestyle="--", linewidth=1)
        right.axhline(found["float"]["p50_ms"], linestyle="--", linewidth=1)
        for axes, title in ((left, found["metric"]), (right, "median latency, ms")):
            axes.set_xlabel("file, kB")
            axes.set_ylabel(title)
            axes.grid(alpha=0.2)
        left.legend(frameon=False, fontsize=7)
        return svg(figure, f"{found['metric']} and latency of {len(points)} files against their bytes")
