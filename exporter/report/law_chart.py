"""The curves of a law as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from exporter.report.charts import STYLE, svg

__all__ = ["curves"]


def curves(law: Mapping[str, Any], fit: Mapping[str, Any] | None) -> str:
    """Loss against total bits, a line for each width; dashed: the fit; rings: the frontier."""
    wanted = [r for r in law["results"] if fit is None or r["bits"] == "16" or r["group"] == fit["group"]]
    widths = sorted({r["bits"] for r in wanted}, key=float)
    shades = mpl.colormaps["viridis"](np.linspace(0.05, 0.9, len(widths)))
    best = {(r["member"], r["bits"], r["group"]) for r in law["frontier"]}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 4.6))
        axes = figure.add_axes((0.08, 0.12, 0.8, 0.85))
        for shade, bits in zip(shades, widths, strict=True):
            rows = sorted((r for r in wanted if r["bits"] == bits), key=lambda r: r["weight_bits"])
            sizes, losses = [r["weight_bits"] / 8e6 for r in rows], [r["loss"] for r in rows]
            axes.plot(sizes, losses, color=shade, marker="o", markersize=4, linewidth=1.4, label=bits)
            if fit is not None and bits in fit["amount"]:
                along = np.geomspace(min(sizes), max(sizes), 40)
                drawn = fit["floor"] + fit["amount"][bits] * (along * 8e6) ** -fit["slope"]
                axes.plot(along, drawn, color=shade, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.7)
            for row, size in zip(rows, sizes, strict=True):
                if (row["member"], bits, row["group"]) in best:
                    axes.plot([size], [row["loss"]], "o", markersize=9, markerfacecolor="none", color="#d55e00")
        axes.set_xscale("log")
        axes.set_xlabel("size of all weights with scales and zero points, MB")
        axes.set_ylabel("loss")
        axes.grid(alpha=0.2)
        axes.legend(title="bits", loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
        _limit(axes, wanted)
        return svg(figure, f"loss against total bits for {', '.join(widths)} bits")


def _limit(axes: Any, rows: list[Mapping[str, Any]]) -> None:
    """One width that has broken down must not flatten all the others."""
    losses = np.array([r["loss"] for r in rows])
    usual = np.quantile(losses, 0.75) * 1.35
    if losses.max() > usual:
        axes.set_ylim(losses.min() - 0.03 * (usual - losses.min()), usual)
