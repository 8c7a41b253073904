"""What is in a file, as tables: its ports, operators, kernels and schemes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from exporter.cli.cells import FEW, counted, empty_table, file_size, span
from exporter.inspection.types import FloatNode, Inspection, Kernels, Port, TensorScheme, WeightUse, by_use

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["inspection"]


def inspection(found: Inspection) -> list[RenderableType]:
    """Everything that inspect knows of one file, and of the parts of a bundle."""
    facts = "".join(f", {name} {fact}" for name, fact in found.facts.items())
    parts: list[RenderableType] = [f"{found.path}  {found.kind}, {file_size(found.size)}{facts}"]
    if found.inputs or found.outputs:
        parts.append(_ports(found.inputs, found.outputs))
    if found.bytes_by_dtype:
        parts.append("constants: " + ", ".join(f"{file_size(n)} {name}" for name, n in found.bytes_by_dtype.items()))
    if found.ops:
        parts.append("operators: " + counted(found.ops))
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
    parts: list[RenderableType] = [f"{kernels.runtime} runs: {counts}{layout}: {counted(kernels.ops)}"]
    if kernels.weights:
        parts.append(_weight_uses(kernels.weights))
    if kernels.float_nodes:
        parts.append(_float_table("in float though quantized", kernels.float_nodes))
    return parts


def _weight_uses(weights: Iterable[WeightUse]) -> Table:
    """One row for each way in which weights are kept and run."""
    table = empty_table("weights", "values", "bits in the file", "in the loaded runtime", right=("weights", "values"))
    for uses in by_use(weights):
        values = f"{sum(u.count for u in uses):,}"
        table.add_row(str(len(uses)), values, str(uses[0].stored), f"{uses[0].label}: {uses[0].op}")
    return table


def _ports(inputs: Iterable[Port], outputs: Iterable[Port]) -> Table:
    table = empty_table("", "name", "dtype", "shape")
    for side, ports in (("input", inputs), ("output", outputs)):
        for port in ports:
            table.add_row(side, port.name, port.dtype, ", ".join("?" if d is None else str(d) for d in port.shape))
    return table


def _schemes(rows: tuple[TensorScheme, ...]) -> list[RenderableType]:
    why = ["why"] if any(row.why for row in rows) else []  # only a plan knows
    table = empty_table("tensor", "role", "bits", "per", "scale", "zero_point", *why)
    for row in rows[:FEW]:
        scale = span(*(f"{s:.4g}" for s in row.scale)) if row.bits else ""
        zero_point = span(*map(str, row.zero_point)) if row.bits else ""
        table.add_row(
            row.name, row.role, str(row.bits or "float"), row.per, scale, zero_point, *([row.why] if why else [])
        )
    return [table, *([f"{len(rows) - FEW} more tensors: --json has all"] if len(rows) > FEW else [])]


def _float_table(title: str, nodes: Iterable[FloatNode]) -> Table:
    """Those of one operator and reason in one row where there are very many: the steps of a recurrent layer."""
    groups: dict[tuple[str, ...], list[FloatNode]] = {}
    found = list(nodes)
    for node in found:
        key = (node.op, node.why) if len(found) > FEW else (node.op, node.why, node.name)
        groups.setdefault(key, []).append(node)
    table = empty_table(title, "op", "why")
    for first, *more in groups.values():
        table.add_row(f"{first.name} and {len(more)} more" if more else first.name, first.op, first.why)
    return table
