"""Charts as inline SVG: matplotlib, the same bytes every time."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["COLOURS", "STYLE", "bars", "histogram", "operators", "shares", "spreads", "sqnr", "svg"]

# Okabe and Ito's palette: told apart by colour-blind readers, on light and on dark
COLOURS = {"float": "#7f7f7f", "onnxruntime": "#0072b2", "tflite": "#d55e00"}
_LINE, _RANGE, _INK = "#0072b2", "#d55e00", "#808080"
STYLE = {
    "svg.hashsalt": "kbit", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
    "axes.edgecolor": _INK, "axes.labelcolor": _INK, "text.color": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def svg(figure: Figure, label: str) -> str:
    """The figure as an <svg> element; ``label`` is read out to those who cannot see it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    body = text.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r' xmlns:xlink="[^"]*"', ' xmlns:xlink="http://www.w3.org/1999/xlink"', body)
    safe = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return body.replace("<svg", f'<svg role="img" aria-label="{safe}"', 1)


def bars(rows: Sequence[Mapping[str, Any]], manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """Metric, latency, size and memory of the artifacts side by side."""
    evaluation = manifest.get("evaluation") or {}
    wanted = [("metric", f"{evaluation.get('metric', 'metric')}", 1.0, "{:.2f}"),
              ("p50", "median latency, ms", 1.0, "{:.3f}"),
              ("bytes", "file size, kB", 1e-3, "{:.0f}"),
              ("peak_bytes", "peak memory, MB", 1e-6, "{:.0f}")]  # fmt: skip
    found = []
    for key, title, factor, form in wanted:
        values = [(r["title"], r["name"], r[key] * factor) for r in rows if r.get(key) is not None]
        if not values:
            continue
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(3.1, 0.42 * len(values) + 0.25))
            axes = figure.add_axes((0.36, 0.02, 0.46, 0.96))
            colours = [COLOURS.get(name, _LINE) for _, name, _ in values]
            axes.barh(range(len(values)), [v for _, _, v in values], color=colours, height=0.62)
            axes.set_yticks(range(len(values)), [t for t, _, _ in values])
            axes.invert_yaxis()
            axes.set_xticks([])
            axes.spines["bottom"].set_visible(False)
            axes.tick_params(length=0)
            for place, (_, _, value) in enumerate(values):
                axes.text(value, place, f" {form.format(value)}", va="center")
            text = "; ".join(f"{t} {form.format(v)}" for t, _, v in values)
            found.append({"title": title, "svg": svg(figure, f"{title}: {text}")})
    return found


def sqnr(layers: Sequence[Mapping[str, Any]]) -> str:
    """Signal to quantization noise along the network."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.4))
        axes = figure.add_axes((0.07, 0.2, 0.91, 0.74))
        values = [layer["sqnr_db"] for layer in layers]
        axes.plot(range(len(values)), values, color=_LINE, marker="o", markersize=3.5, linewidth=1.4)
        axes.set_ylabel("SQNR, dB")
        axes.set_xlabel("layer, in graph order")
        axes.grid(axis="y", alpha=0.25)
        axes.set_ylim(bottom=min(0.0, *values))
        worst = min(layers, key=lambda layer: layer["sqnr_db"])
        return svg(figure, f"SQNR of {len(values)} layers; lowest {worst['sqnr_db']} dB at {worst['value']}")


def shares(parts: Sequence[Mapping[str, Any]], whole: float) -> str:
    """What each layer costs alone, and what its going back to float takes off the whole divergence."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.4))
        axes = figure.add_axes((0.09, 0.2, 0.89, 0.74))
        places = range(len(parts))
        axes.bar([p - 0.2 for p in places], [part["alone"] for part in parts], width=0.4, color=_LINE)
        axes.bar([p + 0.2 for p in places], [whole - part["without"] for part in parts], width=0.4, color=_RANGE)
        axes.axhline(0, linewidth=0.8)
        axes.set_xlabel("layer, in graph order")
        axes.set_ylabel("divergence")
        axes.grid(axis="y", alpha=0.25)
        worst = max(parts, key=lambda part: part["alone"])
        return svg(figure, f"shares of {len(parts)} layers; largest alone: {worst['alone']:.3g} at {worst['node']}")


def histogram(drawn: Mapping[str, Any]) -> str:
    """What calibration saw of a tensor (log counts) and the range that its integers cover."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.0, 1.9))
        axes = figure.add_axes((0.1, 0.17, 0.87, 0.66))
        counts, low, high = drawn["counts"], drawn["edge_low"], drawn["edge_high"]
        width = (high - low) / len(counts)
        places = [low + width * (i + 0.5) for i in range(len(counts))]
        axes.bar(places, counts, width=width, color=_LINE, log=True)
        axes.axvspan(drawn["range_low"], drawn["range_high"], color=_RANGE, alpha=0.12)
        for edge in (drawn["range_low"], drawn["range_high"]):
            axes.axvline(edge, color=_RANGE, linewidth=1.2)
        seen = [place for place, count in zip(places, counts, strict=True) if count]
        ends = [*seen, drawn["range_low"], drawn["range_high"]]
        axes.set_xlim(min(ends) - 2 * width, max(ends) + 2 * width)
        axes.set_yticks([])
        axes.minorticks_off()
        name = str(drawn["value"])
        axes.set_title(name.replace("$", r"\$"), fontsize=9)
        span = f"{drawn['range_low']:.3g} to {drawn['range_high']:.3g}"
        return svg(figure, f"histogram of {name}, quantized range {span}")


_STEPS = (("equal", "#009e73"), ("1 step", "#f0e442"), ("2 steps", "#e69f00"), ("more", "#d55e00"))


def operators(rows: Sequence[Mapping[str, Any]]) -> str:
    """Share of equal output values of each TFLite operator, given what ONNX Runtime computed before it."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 1.9))
        axes = figure.add_axes((0.07, 0.24, 0.91, 0.68))
        shares = [100 * row["equal"] for row in rows]
        colours = [_STEPS[min(row["max_steps"], 3)][1] for row in rows]
        axes.bar(range(len(rows)), shares, color=colours, width=0.8)
        axes.set_ylim(min(99.0, min(shares) - 0.5), 100.02)
        axes.set_ylabel("equal, %")
        axes.set_xlabel("operator, in graph order; colour: largest distance (green: none)")
        worst = min(rows, key=lambda row: row["equal"])
        text = f"{len(rows)} operators; least equal {100 * worst['equal']:.2f} % at {worst['tensor']} ({worst['code']})"
        return svg(figure, text)


def spreads(named: Mapping[str, Mapping[str, Any]]) -> str:
    """How far output values are apart, in steps of the output scale; one bar for each comparison."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.34 * len(named) + 0.62))
        height = figure.get_figheight()
        axes = figure.add_axes((0.34, 0.42 / height, 0.64, 1 - 0.5 / height))
        left = [0.0] * len(named)
        for place, (label, colour) in enumerate(_STEPS):
            shares = [100 * spread["steps"][place] for spread in named.values()]
            axes.barh(range(len(named)), shares, left=left, color=colour, height=0.66, label=label)
            left = [a + b for a, b in zip(left, shares, strict=True)]
        axes.set_yticks(range(len(named)), list(named))
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("% of output values: green equal, yellow 1 step, orange 2, red more", fontsize=8)
        return svg(figure, "; ".join(f"{n}: {100 * s['steps'][0]:.2f} % equal" for n, s in named.items()))


def training(history: Mapping[str, Any]) -> str:
    """Losses by epoch; a ring marks the epoch that ships."""
    epochs, kept = history["epochs"], history["kept"]
    lines = [("training", "loss", _LINE), ("held out", "held_out", _RANGE)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.2))
        axes = figure.add_axes((0.07, 0.21, 0.91, 0.73))
        for label, key, colour in lines:
            points = [(e["number"], e[key]) for e in epochs if e[key] is not None]
            if not points:
                continue
            places, values = zip(*points, strict=True)
            axes.plot(places, values, color=colour, marker="o", markersize=3.5, linewidth=1.4, label=label)
            ring = [p for p in points if p[0] == kept]
            axes.scatter([p[0] for p in ring], [p[1] for p in ring], s=70, facecolors="none", edgecolors=colour)
        axes.set_xlabel("epoch (0: before training)")
        axes.set_ylabel("loss")
        axes.grid(axis="y", alpha=0.25)
        axes.legend(frameon=False)
        return svg(figure, f"losses of {len(epochs) - 1} epochs; epoch {kept} ships")
