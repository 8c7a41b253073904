"""Devices, latency, changes, findings and capabilities as tables and small drawings for the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from exporter.cli.cells import empty_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from targets import Target
    from targets.capabilities import Capability
    from targets.doctor import Finding
    from targets.history import Change

__all__ = [
    "bench",
    "capabilities",
    "changes",
    "chart",
    "findings",
    "interval_bar",
    "target",
    "target_facts",
    "targets",
]

_WIDE = 32  # columns of an interval's drawing
_BLOCKS = " ▁▂▃▄▅▆▇█"
_CHART = 72
_BAR = 20


def bench(result: Mapping[str, Any]) -> list[RenderableType]:
    """A table for each thread count with every interval drawn to one scale, the conditions, the curve, the verdict."""
    parts: list[RenderableType] = []
    for setting in result["settings"]:
        artifacts = setting["artifacts"]
        top = max(facts["high"] for facts in artifacts.values())
        title = f"{setting['threads']} thread{'s' if setting['threads'] > 1 else ''}"
        table = empty_table(
            title, "p50 ms, 95 % interval", f"0 … {top:.3g} ms", "p90", "p99", "load", "first run", "speed-up"
        )
        for name, facts in artifacts.items():
            against = next((v for k, v in facts.items() if k.startswith("against_")), None)
            table.add_row(
                name,
                f"{facts['p50']:.4g} ({facts['low']:.4g} to {facts['high']:.4g})",
                interval_bar(facts["low"], facts["p50"], facts["high"], top),
                _number(facts.get("p90")),
                _number(facts.get("p99")),
                _number(facts["load_ms"]),
                _number(facts["first_ms"]),
                ""
                if against is None
                else f"{1 / against['ratio']:.2f}x ({1 / against['high']:.2f} to {1 / against['low']:.2f})",
            )
        parts.append(table)
    for name, body in result["profiles"].items():
        parts.append(_profile(name, body))
    parts.append("peak memory: " + ", ".join(f"{n} {b / 1e6:.0f} MB" for n, b in result["peak_bytes"].items() if b))
    parts.append(_conditions(result["settings"][-1]["conditions"]))
    if result["sustained"]:
        parts += _sustained(result["sustained"])
    parts.append("passed" if result["passed"] else "NOT passed")
    return [*parts, *(f"  {reason}" for reason in result["reasons"])]


def _profile(name: str, body: Mapping[str, Any]) -> str:
    """The kernels that take most, and what float islands and moving data cost."""
    tops = ", ".join(f"{row['op']} {100 * row['share']:.0f} %" for row in body["ops"][:4])
    total = body["total_ms"]
    extras = [
        f"{word} {100 * sum(n['ms'] for n in body[key]) / total:.0f} % ({len(body[key])} nodes)"
        for word, key in (("in float", "float_nodes"), ("layout", "layout_nodes"))
        if body[key]
    ]
    return f"time of {name}: {tops}" + (f"; {', '.join(extras)}" if extras else "")


def interval_bar(low: float, middle: float, high: float, top: float) -> str:
    """├─●─┤ on a line from 0 to ``top``."""
    places = [min(_WIDE - 1, round(value / top * (_WIDE - 1))) for value in (low, middle, high)]
    cells = [" "] * _WIDE
    for place in range(places[0], places[2] + 1):
        cells[place] = "─"
    cells[places[0]], cells[places[2]] = "├", "┤"
    cells[places[1]] = "●"
    return "".join(cells)


def chart(values: Sequence[float], label: str) -> str:
    """One line of blocks from the lowest to the highest value."""
    width = min(_CHART, len(values))
    means = [values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)]
    columns = [sum(part) / len(part) for part in means]
    low, high = min(columns), max(columns)
    span = high - low or 1.0
    blocks = "".join(_BLOCKS[1 + round((value - low) / span * (len(_BLOCKS) - 2))] for value in columns)
    return f"{label:>12} {low:8.4g} {blocks} {high:.4g}"


def _sustained(found: Mapping[str, Any]) -> list[RenderableType]:
    rows = found["rows"]
    parts: list[RenderableType] = [f"{found['artifact']} without a pause, {rows[-1]['at_s']:.0f} s:"]
    for key, label in (("median_ms", "median ms"), ("temperature_c", "degrees C"), ("clock_mhz", "MHz")):
        values = [row[key] for row in rows if row[key] is not None]
        if values:
            parts.append(chart(values, label))
    if found["knee"] is not None:
        at = rows[found["knee"]]["at_s"]
        parts.append(f"{'':21} {' ' * int(found['knee'] / len(rows) * min(_CHART, len(rows)))}▲ knee at {at:.0f} s")
    return parts


def _conditions(found: Mapping[str, Any]) -> str:
    def words(state: Mapping[str, Any]) -> str:
        known = []
        if state["temperature_c"] is not None:
            known.append(f"{state['temperature_c']:.0f} °C")
        if state["clock_mhz"]:
            known.append(f"{max(state['clock_mhz'])} MHz")
        if state["governor"]:
            known.append(state["governor"])
        if state["load"] is not None:
            known.append(f"load {state['load']:.2f}")
        return ", ".join(known) or "nothing is known"

    return f"before: {words(found['before'])}; after: {words(found['after'])}"


def changes(then: Mapping[str, Any], now: Mapping[str, Any], found: Sequence[Change]) -> list[RenderableType]:
    """Then and now, side by side."""
    table = empty_table("figure", "then", "now", "now / then", "verdict")
    for change in found:
        verdict = "worse" if change.worse else "better" if change.better else "same within the noise"
        ratio = f"{change.ratio:.3f} ({change.low:.3f} to {change.high:.3f})"
        table.add_row(change.figure, f"{change.then:.6g}", f"{change.now:.6g}", ratio, verdict)
    doubts = [
        f"the {word} run was noisy or throttled" for word, e in (("older", then), ("newer", now)) if not e["trusted"]
    ]
    return [f"{now['bundle']} on {now['target']}: {then['when']} and {now['when']}", table, *doubts]


def findings(found: Sequence[Finding]) -> list[RenderableType]:
    """What is wrong first."""
    marks = {"bad": "✗", "note": "!", "good": "✓"}
    lines: list[RenderableType] = []
    for level, mark in marks.items():
        for each in found:
            if each.level == level:
                lines.append(f"{mark} {each.what}" + (f"\n    → {each.fix}" if each.fix else ""))
    return lines


def capabilities(rows: Sequence[Capability]) -> list[RenderableType]:
    """What each width buys against float; nothing where nothing was measured."""
    if not rows:
        return []
    table = empty_table("op", "runtime", "weights", "activations", "speed against float", "", "buys speed")
    top = max(row.speed for row in rows)
    for row in rows:
        read = "dynamic" if row.dynamic else str(row.activation_bits or "float")
        bar = "█" * max(1, round(_BAR * row.speed / top))
        table.add_row(
            row.op, row.runtime, str(row.weight_bits), read, f"{row.speed:.2f}x", bar, "yes" if row.low_bits else "no"
        )
    return [table, f"measured: {', '.join(sorted({row.source for row in rows}))}"]


def targets(found: Iterable[Target]) -> list[RenderableType]:
    """One row a device."""
    table = empty_table("target", "what", "cpu", "runtimes", "reached by")
    for each in found:
        reach = each.transport or "--on ssh://USER@HOST"
        table.add_row(each.name, each.description, each.cpu, ", ".join(each.runtimes), reach)
    return [table]


def target(found: Target) -> list[RenderableType]:
    """Everything that is known of one device."""
    return [f"{key}  {value}" for key, value in target_facts(found).items()]


def target_facts(found: Target) -> dict[str, Any]:
    """Plain data; what is not known is left out."""
    facts = {key: value for key, value in dataclasses.asdict(found).items() if value not in (None, "", (), {})}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in facts.items()}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
