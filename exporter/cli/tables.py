"""Results as tables for people; the JSON next to them says the same to programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from exporter import worth
from exporter.cli.cells import FEW, decimal, empty_table, file_size, millions

if TYPE_CHECKING:
    from rich.console import RenderableType

    from exporter.conversion import Converted
    from exporter.finetune import History
    from exporter.parity import Certificate
    from exporter.pipeline import Outcome
    from exporter.pruning import Pruning
    from exporter.worth import NoGain

__all__ = [
    "browser",
    "certificate",
    "check",
    "converted",
    "findings",
    "outcome",
    "outcome_json",
]

_CAUSES = 5  # of a loss; the report has more


def outcome(found: Outcome) -> list[RenderableType]:
    """What a run made, then the verdict and where to look."""
    parts = artifacts(found.check)
    if found.parity is not None:
        parts.append(
            f"float ONNX against torch: {found.parity.max_abs:.1e} at most, {found.parity.max_rel:.1e} relative"
        )
    if found.pruning is not None:
        parts.append(removed(found.pruning))
    parts += [trained(history) for history in found.training]
    parts += findings([dataclasses.asdict(each) for each in found.findings])
    wide = any(each.activation_bits == 16 for each in found.no_gains)
    parts += [] if wide and not found.float_nodes else float_nodes(found.float_nodes)
    parts += float_weights(found.float_weights)
    parts += [f"pass {name} changed nothing: this model has no {place}" for name, place in found.idle_passes.items()]
    parts += [f"loss, {each.kind} at {each.where}: {each.found}; try {each.remedy}" for each in found.causes[:_CAUSES]]
    parts += [*no_gains(found.no_gains), *verdict(found.check)]
    parts.append(f"bundle  {found.bundle.path}")
    return [*parts, *([f"report  {found.report}"] if found.report else [])]


def outcome_json(found: Outcome) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "bundle": str(found.bundle.path),
        "report": str(found.report) if found.report else None,
        "check": dict(found.check),
        "parity": None if found.parity is None else dataclasses.asdict(found.parity),
        "float_nodes": dict(found.float_nodes),
        "findings": [dataclasses.asdict(each) for each in found.findings],
        "pruning": None if found.pruning is None else dataclasses.asdict(found.pruning),
        "training": [dataclasses.asdict(history) for history in found.training],
        "no_gains": [worth.to_dict(each) for each in found.no_gains],
        "causes": [dataclasses.asdict(each) for each in found.causes],
        "idle_passes": dict(found.idle_passes),
        "float_weights": {name: list(kept) for name, kept in found.float_weights.items()},
    }


def removed(pruning: Pruning) -> str:
    """One line on what was pruned."""
    if pruning.method != "channels":
        return f"pruned ({pruning.method}): {100 * pruning.zeros:.1f} % of the weights of layers are zero"
    before, after = pruning.multiply_adds_before, pruning.multiply_adds
    share = 100 * (1 - after / max(before, 1))
    return f"pruned channels: {millions(before)} -> {millions(after)} multiply-adds ({share:.1f} % removed)"


def trained(history: History) -> str:
    """One line on a training."""
    first, best = history.epochs[0], history.epochs[history.kept]
    line = f"{history.stage}: {len(history.epochs) - 1} epochs, the best is {history.kept}"
    if best.held_out is not None:
        line += f"; held-out loss {decimal(first.held_out, 4)} -> {decimal(best.held_out, 4)}"
    if best.metric is not None:
        line += f", {history.metric_name} {decimal(first.metric, 2)} -> {decimal(best.metric, 2)}"
    if history.metric is not None:
        line += f"; {history.metric_name} on the evaluation samples {decimal(history.metric, 2)}"
    return line


def findings(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with the data, one line each."""
    lines = []
    for each in found:
        where = f" (first: {', '.join(map(str, each['samples']))})" if each["samples"] else ""
        lines.append(f"data, {each['kind']}: {each['found']}{where}; {each['remedy']}")
    return lines


def check(result: Mapping[str, Any]) -> list[RenderableType]:
    """The artifacts side by side, and the verdict."""
    return [*artifacts(result), *verdict(result)]


def artifacts(result: Mapping[str, Any]) -> list[RenderableType]:
    """The artifacts side by side, and their agreement."""
    if any("decode_rate" in facts or "perplexity" in facts for facts in result["artifacts"].values()):
        return [_language(result), *_agreement(result)]
    in_browser = any("browser_latency_ms" in facts for facts in result["artifacts"].values())
    counted = any("instructions" in facts for facts in result["artifacts"].values())
    clock = "browser " if in_browser else ""  # never to be taken for the device's own
    costs: tuple[str, ...] = ("instructions",) if counted else (f"{clock}p50 ms", f"{clock}p90 ms")
    costs += () if counted or in_browser else ("peak memory",)
    compared = ("as on the host",) if any("host" in facts for facts in result["artifacts"].values()) else ()
    table = empty_table("artifact", "size", "metric", "drop", *costs, *compared)
    for name, facts in result["artifacts"].items():
        latency = facts.get("browser_latency_ms" if in_browser else "latency_ms") or {}
        cost: tuple[str, ...] = (
            decimal(latency.get("p50"), 3),
            decimal(latency.get("p90"), 3),
            file_size(facts.get("peak_bytes")),
        )
        if counted:
            cost = (millions((facts.get("instructions") or {}).get("all")),)
        host = (_same(facts),) if compared else ()
        table.add_row(
            name,
            file_size(facts.get("bytes")),
            decimal(facts.get("metric"), 4),
            decimal(facts.get("drop"), 2),
            *cost[: len(costs)],
            *host,
        )
    return [table, *_agreement(result)]


def _agreement(result: Mapping[str, Any]) -> list[RenderableType]:
    agreement = result.get("agreement") or {}
    said = [f"{name} {decimal(value, 4)}" for name, value in agreement.items() if value is not None]
    return [f"agreement of the artifacts: {', '.join(said)}"] if said else []


def _language(result: Mapping[str, Any]) -> RenderableType:
    """Quality and speed of language models."""
    table = empty_table(
        "artifact", "size", "perplexity", "+ %", "bits a byte", "divergence", "top-1 as float",
        "first token ms", "prompt tok/s", "written tok/s", "peak memory",
    )  # fmt: skip
    for name, facts in result["artifacts"].items():
        table.add_row(
            name,
            file_size(facts.get("bytes")),
            decimal(facts.get("perplexity"), 3),
            decimal(facts.get("drop"), 2),
            decimal(facts.get("bits_per_byte"), 4),
            decimal(facts.get("divergence"), 5),
            decimal(facts.get("agreement"), 4),
            decimal(facts.get("first_token_ms"), 1),
            decimal(facts.get("prefill_rate"), 0),
            decimal(facts.get("decode_rate"), 0),
            file_size(facts.get("peak_bytes")),
        )
    return table


def verdict(result: Mapping[str, Any]) -> list[str]:
    """One line, and one more for each reason."""
    notes = (f"  ({note})" for note in result.get("notes", ()))
    return ["passed" if result["passed"] else "NOT passed", *(f"  {reason}" for reason in result["reasons"]), *notes]


def browser(facts: Mapping[str, Any]) -> str:
    """Which one it was, on one line."""
    place = "isolated page" if facts.get("isolated") else "plain http, one thread"
    return f"{facts.get('browser')} on {facts.get('platform')}, {facts.get('cores') or '?'} cores, {place}"


def _same(facts: Mapping[str, Any]) -> str:
    """Of an artifact elsewhere: how many samples have the host's top-1, how many values are the host's."""
    host = facts.get("host") or facts.get("golden") or {}
    shares = (("top1", host.get("top1")), ("equal", host.get("equal")))
    return ", ".join(f"{name} {decimal(share, 4)}" for name, share in shares if share is not None)


def float_nodes(nodes: Mapping[str, str]) -> list[RenderableType]:
    """Which nodes run in float and why; equal reasons share a row."""
    if not nodes:
        return ["all nodes run in integers"]
    by_reason: dict[str, list[str]] = {}
    for node, why in nodes.items():
        by_reason.setdefault(why, []).append(node)
    table = empty_table("in float", "nodes", "why", right=("in float",))
    for why, names in by_reason.items():
        shown = ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
        table.add_row(str(len(names)), shown, why)
    return [table]


def float_weights(found: Mapping[str, Sequence[str]]) -> list[RenderableType]:
    """One line for each artifact that keeps planned weights as float numbers."""
    lines: list[RenderableType] = []
    for artifact, names in found.items():
        shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        many = f"{len(names)} weight{'' if len(names) == 1 else 's'}"
        lines.append(f"{artifact} keeps {many} of the plan as float32 numbers, having no kernel for the form: {shown}")
    return lines


def no_gains(found: Sequence[NoGain]) -> list[RenderableType]:
    """Widths that were measured to buy no speed on the targets."""
    if not found:
        return []
    table = empty_table("buys no speed on", "runtime", "operator", "nodes", "width", "measured", right=("nodes",))
    for each in found:
        table.add_row(each.target, each.runtime, each.op, str(len(each.nodes)), each.width, each.verdict)
    sources = ", ".join(sorted({each.source for each in found} - {""}))
    return [table, *([f"measured: {sources}"] if sources else [])]


def certificate(found: Certificate) -> list[RenderableType]:
    """Numbers, operators that part, whole runs, and the verdict."""
    numbers = found.numbers
    parts: list[RenderableType] = [
        f"{numbers.activations} activation grids, {numbers.weights} weights, {numbers.biases} biases: "
        f"{numbers.integers:,} integers compared in both files"
    ]
    parts += [f"  {line}" for line in [*numbers.different[:FEW], *numbers.missing[:FEW]]]
    apart = [o for o in found.operators if o.equal < 1]
    if found.operators:
        equal = f"{len(found.operators) - len(apart)} of {len(found.operators)}"
        parts.append(f"{equal} operators give the same integers on the same inputs")
    if apart:
        table = empty_table("operator", "tensor", "equal", "steps apart", right=("equal", "steps apart"))
        for operator in sorted(apart, key=lambda o: o.equal)[:FEW]:
            table.add_row(operator.code, operator.tensor, f"{100 * operator.equal:.3f} %", str(operator.max_steps))
        parts.append(table)
    whole = empty_table("against ONNX Runtime", "samples", "top-1 %", "equal %", "1 step", "2", "more")
    rows = {"TFLite (LiteRT)": found.whole, "itself, not optimised": found.noise, **found.others}
    for name, spread in rows.items():
        steps = [f"{100 * share:.2f}" for share in spread.steps[1:]] or ["", "", ""]
        top1 = "" if spread.top1 is None else f"{100 * spread.top1:.2f}"
        whole.add_row(name, str(spread.samples), top1, f"{100 * spread.equal:.2f}", *steps)
    parts.append(whole)
    if found.parts_at is not None:
        parts.append(f"whole runs first part at {found.parts_at[0]} ({100 * found.parts_at[1]:.3f} % equal there)")
    return [*parts, "identical numbers" if found.identical else "NOT the same numbers"]


def converted(found: Converted) -> list[RenderableType]:
    """One line on the file that was written."""
    said = "" if found.difference is None else f", within {found.difference:.1e} of ONNX Runtime on a random input"
    return [f"{found.path}  {found.format}, {file_size(found.size)}{said}"]
