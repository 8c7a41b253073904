"""Which inputs of a Concat keep a scale of their own.

A Concat reads and writes one scale: that of its widest input. Whoever else reads a narrow input would read it on that
coarse grid too; so the input keeps its own, and the Concat alone reads it requantized (one QUANTIZE in TFLite; in ONNX
Runtime QLinearConcat does it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx_ir as ir

from exporter import graph
from exporter.ops import Same
from exporter.quantize.ties import Ties
from exporter.quantize.widths import Grid, Widths

__all__ = ["apart"]

_COARSER = 2.0  # a shared grid may be so much coarser than the input's own: one bit


def apart(
    widths: Widths, grids: Mapping[str, Grid], held: Iterable[str], scale_of: Callable[[Sequence[str]], float]
) -> set[tuple[str, str]]:
    """(value, Concat) whose scales are better not shared.

    held      tensors whose scale a kernel sets; a Concat that they are tied to is left as it is
    scale_of  the int8 scale that tensors need together
    """
    ties, concats = _untied(widths, grids, held)
    found: set[tuple[str, str]] = set()
    for node in concats:
        *names, result = dict.fromkeys(widths.names(node, grids))
        own = {name: scale_of(_group(ties, name)) for name in names}
        ties.tie([result, *(name for name in names if not _read_elsewhere(ties, grids, name, node, widths))])
        for name in sorted(names, key=lambda n: -own[n]):
            if ties.leader(name) == ties.leader(result):
                continue
            if own[name] * _COARSER > scale_of([*_group(ties, result), *names]):
                ties.tie([result, name])
            else:
                found.add((name, graph.node_name(node)))
    return found


def _untied(widths: Widths, grids: Mapping[str, Grid], held: Iterable[str]) -> tuple[Ties, list[ir.Node]]:
    """Ties of all nodes but the Concats that are asked about, and these, in graph order."""
    whole, ties, concats = Ties(grids), Ties(grids), []
    tied = [(node, widths.names(node, grids)) for node in widths.nodes if isinstance(widths.rule(node), Same)]
    for _, names in tied:
        whole.tie(names)
    kept = {whole.leader(name) for name in held if name in grids}
    for node, names in tied:
        if node.op_type == "Concat" and widths.bits(node) == 8 and whole.leader(names[-1]) not in kept:
            concats.append(node)
        else:
            ties.tie(names)
    return ties, concats


def _group(ties: Ties, name: str) -> list[str]:
    return ties.groups()[ties.leader(name)]


def _read_elsewhere(ties: Ties, grids: Mapping[str, Grid], name: str, concat: ir.Node, widths: Widths) -> bool:
    """Does anything but this Concat see the group's integers? Not where it is a second grid already."""
    if grids[name].readers:
        return False
    for member in _group(ties, name):
        value = grids[member].value
        maker = value.producer()
        made = maker is not None and maker in widths
        if made and value.is_graph_output():
            return True
        for reader in graph.consumers(value):
            if reader is concat or (reader not in widths and not made):  # what comes in float is read in float there
                continue
            if reader not in widths or not isinstance(widths.rule(reader), Same) or reader.op_type == "Concat":
                return True
    return False
