"""Results as tables for people; the JSON next to them says the same to programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from exporter import worth
from exporter.inspection.types import FloatNode, Inspection, Kernels, Port, TensorScheme, WeightUse, by_use
from exporter.units import predicted_latency, size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from exporter.conversion import Converted
    from exporter.finetune import History
    from exporter.law import Law
    from exporter.parity import Certificate
    from exporter.pipeline import Outcome
    from exporter.pruning import Pruning
    from exporter.search import Search
    from exporter.sweeping import Sweep
    from exporter.tuning import Tuning
    from exporter.worth import NoGain
    from targets import Target

__all__ = [
    "browser",
    "certificate",
    "check",
    "converted",
    "findings",
    "inspection",
    "outcome",
    "outcome_json",
    "search",
    "sweep",
    "target",
    "target_facts",
    "targets",
    "tuning",
]

_FEW = 40  # rows of a long table that people are shown; --json has them all


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
        "float_weights": {name: list(kept) for name, kept in found.float_weights.items()},
    }


def removed(pruning: Pruning) -> str:
    """One line on what was pruned."""
    if pruning.method != "channels":
        return f"pruned ({pruning.method}): {100 * pruning.zeros:.1f} % of the weights of layers are zero"
    before, after = pruning.multiply_adds_before, pruning.multiply_adds
    share = 100 * (1 - after / max(before, 1))
    return f"pruned channels: {_millions(before)} -> {_millions(after)} multiply-adds ({share:.1f} % removed)"


def trained(history: History) -> str:
    """One line on a training."""
    first, best = history.epochs[0], history.epochs[history.kept]
    line = f"{history.stage}: {len(history.epochs) - 1} epochs, the best is {history.kept}"
    if best.held_out is not None:
        line += f"; held-out loss {_number(first.held_out, 4)} -> {_number(best.held_out, 4)}"
    if best.metric is not None:
        line += f", {history.metric_name} {_number(first.metric, 2)} -> {_number(best.metric, 2)}"
    if history.metric is not None:
        line += f"; {history.metric_name} on the evaluation samples {_number(history.metric, 2)}"
    return line


def findings(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with calibration data, one line each."""
    lines = []
    for each in found:
        where = f" (first: {', '.join(map(str, each['samples']))})" if each["samples"] else ""
        lines.append(f"calibration, {each['kind']}: {each['found']}{where}; {each['remedy']}")
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
    table = _table("artifact", "size", "metric", "drop", *costs, *compared)
    for name, facts in result["artifacts"].items():
        latency = facts.get("browser_latency_ms" if in_browser else "latency_ms") or {}
        cost: tuple[str, ...] = (
            _number(latency.get("p50"), 3),
            _number(latency.get("p90"), 3),
            _size(facts.get("peak_bytes")),
        )
        if counted:
            cost = (_millions((facts.get("instructions") or {}).get("all")),)
        host = (_same(facts),) if compared else ()
        table.add_row(
            name,
            _size(facts.get("bytes")),
            _number(facts.get("metric"), 4),
            _number(facts.get("drop"), 2),
            *cost[: len(costs)],
            *host,
        )
    return [table, *_agreement(result)]


def _agreement(result: Mapping[str, Any]) -> list[RenderableType]:
    agreement = result.get("agreement") or {}
    said = [f"{name} {_number(value, 4)}" for name, value in agreement.items() if value is not None]
    return [f"agreement of the artifacts: {', '.join(said)}"] if said else []


def _language(result: Mapping[str, Any]) -> RenderableType:
    """Quality and speed of language models."""
    table = _table(
        "artifact", "size", "perplexity", "+ %", "bits a byte", "divergence", "top-1 as float",
        "first token ms", "prompt tok/s", "written tok/s", "peak memory",
    )  # fmt: skip
    for name, facts in result["artifacts"].items():
        table.add_row(
            name,
            _size(facts.get("bytes")),
            _number(facts.get("perplexity"), 3),
            _number(facts.get("drop"), 2),
            _number(facts.get("bits_per_byte"), 4),
            _number(facts.get("divergence"), 5),
            _number(facts.get("agreement"), 4),
            _number(facts.get("first_token_ms"), 1),
            _number(facts.get("prefill_rate"), 0),
            _number(facts.get("decode_rate"), 0),
            _size(facts.get("peak_bytes")),
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
    return ", ".join(f"{name} {_number(share, 4)}" for name, share in shares if share is not None)


def float_nodes(nodes: Mapping[str, str]) -> list[RenderableType]:
    """Which nodes run in float and why; equal reasons share a row."""
    if not nodes:
        return ["all nodes run in integers"]
    by_reason: dict[str, list[str]] = {}
    for node, why in nodes.items():
        by_reason.setdefault(why, []).append(node)
    table = _table("in float", "nodes", "why", right=("in float",))
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
    table = _table("buys no speed on", "runtime", "operator", "nodes", "width", "measured", right=("nodes",))
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
    parts += [f"  {line}" for line in [*numbers.different[:_FEW], *numbers.missing[:_FEW]]]
    apart = [o for o in found.operators if o.equal < 1]
    if found.operators:
        equal = f"{len(found.operators) - len(apart)} of {len(found.operators)}"
        parts.append(f"{equal} operators give the same integers on the same inputs")
    if apart:
        table = _table("operator", "tensor", "equal", "steps apart", right=("equal", "steps apart"))
        for operator in sorted(apart, key=lambda o: o.equal)[:_FEW]:
            table.add_row(operator.code, operator.tensor, f"{100 * operator.equal:.3f} %", str(operator.max_steps))
        parts.append(table)
    whole = _table("against ONNX Runtime", "samples", "top-1 %", "equal %", "1 step", "2", "more")
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
    said = "" if found.difference is None else f", within {found.difference:.1e} of ONNX Runtime on a random input"
    return [f"{found.path}  {found.format}, {_size(found.size)}{said}"]


def inspection(found: Inspection) -> list[RenderableType]:
    """Everything that inspect knows of one file, and of the parts of a bundle."""
    facts = "".join(f", {name} {fact}" for name, fact in found.facts.items())
    parts: list[RenderableType] = [f"{found.path}  {found.kind}, {_size(found.size)}{facts}"]
    if found.inputs or found.outputs:
        parts.append(_ports(found.inputs, found.outputs))
    if found.bytes_by_dtype:
        parts.append("constants: " + ", ".join(f"{_size(n)} {name}" for name, n in found.bytes_by_dtype.items()))
    if found.ops:
        parts.append("operators: " + _counts(found.ops))
    if found.kernels is not None:
        parts += _kernels(found.kernels)
    if found.schemes:
        parts += _schemes(found.schemes)
    if found.float_nodes:
        parts.append(_float_table("planned in float", found.float_nodes))
    for part in found.parts:
        parts += ["", *inspection(part)]
    return parts


def _kernels(kernels: Kernels) -> list[RenderableType]:
    if kernels.problem:
        return [f"{kernels.runtime} does not load it: {kernels.problem}"]
    counts = f"{kernels.integer} integer, {kernels.in_float} float, {kernels.boundary} quantize or dequantize"
    layout = f", {kernels.reorder} layout" if kernels.reorder else ""
    parts: list[RenderableType] = [f"{kernels.runtime} runs: {counts}{layout}: {_counts(kernels.ops)}"]
    if kernels.weights:
        parts.append(_weight_uses(kernels.weights))
    if kernels.float_nodes:
        parts.append(_float_table("in float though quantized", kernels.float_nodes))
    return parts


def _weight_uses(weights: Iterable[WeightUse]) -> Table:
    """One row for each way in which weights are kept and run."""
    table = _table("weights", "values", "bits in the file", "in the loaded runtime", right=("weights", "values"))
    for uses in by_use(weights):
        values = f"{sum(u.count for u in uses):,}"
        table.add_row(str(len(uses)), values, str(uses[0].stored), f"{uses[0].label}: {uses[0].op}")
    return table


def _ports(inputs: Iterable[Port], outputs: Iterable[Port]) -> Table:
    table = _table("", "name", "dtype", "shape")
    for side, ports in (("input", inputs), ("output", outputs)):
        for port in ports:
            table.add_row(side, port.name, port.dtype, ", ".join("?" if d is None else str(d) for d in port.shape))
    return table


def _schemes(rows: tuple[TensorScheme, ...]) -> list[RenderableType]:
    why = ["why"] if any(row.why for row in rows) else []  # only a plan knows
    table = _table("tensor", "role", "bits", "per", "scale", "zero_point", *why)
    for row in rows[:_FEW]:
        scale = _range(*(f"{s:.4g}" for s in row.scale)) if row.bits else ""
        zero_point = _range(*map(str, row.zero_point)) if row.bits else ""
        table.add_row(
            row.name, row.role, str(row.bits or "float"), row.per, scale, zero_point, *([row.why] if why else [])
        )
    return [table, *([f"{len(rows) - _FEW} more tensors: --json has all"] if len(rows) > _FEW else [])]


def _float_table(title: str, nodes: Iterable[FloatNode]) -> Table:
    """Those of one operator and reason in one row where there are very many: the steps of a recurrent layer."""
    groups: dict[tuple[str, ...], list[FloatNode]] = {}
    found = list(nodes)
    for node in found:
        key = (node.op, node.why) if len(found) > _FEW else (node.op, node.why, node.name)
        groups.setdefault(key, []).append(node)
    table = _table(title, "op", "why")
    for first, *more in groups.values():
        table.add_row(f"{first.name} and {len(more)} more" if more else first.name, first.op, first.why)
    return table


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return table


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} … {high}"


def _number(value: float | None, digits: int) -> str:
    return (
        "" if value is None else f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits > 3 else f"{value:.{digits}f}"
    )


def _millions(count: float | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f} M"


def _size(count: float | None) -> str:
    return "" if count is None else size(count)


def targets(found: Iterable[Target]) -> list[RenderableType]:
    """One row a device."""
    table = _table("target", "what", "cpu", "runtimes", "reached by")
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


def law(found: Law) -> RenderableType:
    """Every point; those on the frontier are marked."""
    table = _table("model", "bits", "group", "rounder", "weights", "file", "loss", "metric", "frontier")
    best = {result.key for result in found.frontier}
    for result in found.results:
        row = result.member, result.bits, str(result.group or "channel"), result.rounder
        sizes = _size(result.weight_bits / 8), _size(result.file_bytes)
        figures = _number(result.loss, 4), _number(result.metric, 4)
        table.add_row(*row, *sizes, *figures, "*" if result.key in best else "")
    return table


def search(found: Search) -> list[RenderableType]:
    """The plan against uniform widths, and what each layer got."""
    timed = found.target is not None
    figures = ("weights", *(["latency"] if timed else []), "rounded apart", "as exported", "metric")
    table = _table("plan", *figures, right=figures)
    rows = {f"all {width}": point for width, point in found.uniform.items()} | {"found": found.best}
    for name, point in sorted(rows.items(), key=lambda row: (row[1].bytes, row[0])):
        made = (
            ("", "")
            if point.shipped is None
            else (_number(point.shipped.divergence, 5), _number(point.shipped.metric, 2))
        )
        latency = [f"{point.time:.3f}"] if point.time is not None else []
        table.add_row(name, _size(point.bytes), *latency, _number(point.divergence, 5), *made)
    layers = _table("layer", "values", "width", *(f"alone at {w}" for w in found.uniform))
    for layer, width in zip(found.layers, found.best.widths, strict=True):
        alone = [_number(layer.choices[w].alone.divergence, 5) for w in found.uniform]
        layers.add_row(layer.weight, f"{layer.values:,}", width, *alone)
    note = "divergence from the float model, on calibration samples; metric: as exported, on evaluation samples"
    budget = _size(found.budget) if found.target is None else predicted_latency(found.budget, found.target)
    return [layers, table, f"budget {budget}; {len(found.points)} plans compared", note]


def sweep(found: Sweep) -> list[RenderableType]:
    """One row for each file."""
    table = _table("weights", "group", "rounder", "artifact", "size", found.metric, "drop", "p50 ms")
    whole = found.float
    table.add_row(
        "float", "", "", "", _size(whole["bytes"]), _number(whole["metric"], 2), "", _number(whole["p50_ms"], 3)
    )
    for p in found.points:
        figures = _size(p.bytes), _number(p.metric, 2), _number(p.drop, 2), _number(p.p50_ms, 3)
        table.add_row(p.width, str(p.group), p.rounder, p.artifact, *figures)
    return [table]


def tuning(found: Tuning) -> list[RenderableType]:
    """The receipts, and the verdict."""
    table = _table("step", "verdict", "drop", "points won", "ms added", "bytes added", "s")
    for number, row in enumerate(found.receipts):
        paid = ("", "") if not number or row.bytes is None else (_number(row.ms, 3), f"{row.bytes:+,}")
        figures = _number(row.drop, 2), _number(row.points, 2), *paid
        table.add_row(row.step, row.verdict, *figures, f"{row.seconds:.0f}")
    return [table, *(["passed"] if found.passed else ["NOT passed", *(f"  {reason}" for reason in found.reasons)])]
