"""Nodes that only move whole channels: shuffles, joins and splits; and which of them hang together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph

__all__ = ["Move", "Order", "regions"]

Order = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """A Concat or Split along the channels, or a shuffle, which is a Reshape, Transpose and Reshape.

    first, last  its nodes that read and make; one and the same but for a shuffle
    order        of a shuffle: result channel i is source channel order[i]
    """

    first: ir.Node
    last: ir.Node
    order: Order | None = None

    @property
    def sources(self) -> list[ir.Value]:
        """The values whose channels it moves."""
        inputs = self.first.inputs if self.first.op_type == "Concat" else self.first.inputs[:1]
        return [v for v in inputs if v is not None]

    @property
    def results(self) -> Sequence[ir.Value]:
        """Where it moves them to."""
        return self.last.outputs


def regions(g: ir.Graph) -> list[list[Move]]:
    """All that hangs together with a shuffle, each region in the order of the graph."""
    moves = [move for node in g if (move := _move(node)) is not None]
    by_first, by_last = {move.first: move for move in moves}, {move.last: move for move in moves}
    found: list[list[Move]] = []
    for seed in moves:
        if seed.order is None or any(seed in region for region in found):
            continue
        region, waiting = {seed}, [seed]
        while waiting:
            near = set(_neighbours(waiting.pop(), by_first, by_last)) - region
            region |= near
            waiting += near
        found.append([move for move in moves if move in region])
    return found


def _neighbours(move: Move, by_first: Mapping[ir.Node, Move], by_last: Mapping[ir.Node, Move]) -> Iterator[Move]:
    makers = [value.producer() for value in move.sources]
    readers = [reader for value in move.results for reader in graph.consumers(value)]
    yield from (by_last[node] for node in makers if node is not None and node in by_last)
    yield from (by_first[node] for node in readers if node in by_first)


def _move(node: ir.Node) -> Move | None:
    """For a Concat, a Split, or the last Reshape of a shuffle."""
    if node.domain:
        return None
    rank = len(node.outputs[0].shape or ())
    if node.op_type in {"Concat", "Split"} and rank > 2 and graph.attribute(node, "axis", 0) in {1, 1 - rank}:
        return Move(node, node)
    return _shuffle(node)


def _shuffle(last: ir.Node) -> Move | None:
    turn = _only(last, "Reshape", "Transpose")
    first = _only(turn, "Transpose", "Reshape") if turn is not None else None
    if turn is None or first is None or first.inputs[0] is None:
        return None
    source, middle, result = (v.shape for v in (first.inputs[0], first.outputs[0], last.outputs[0]))
    if source is None or middle is None or result is None or source != result or len(source) < 3:
        return None
    rank = len(middle)
    perm = list(graph.attribute(turn, "perm", ()))  # type: ignore[call-overload]
    groups, each, channels = (middle[1], middle[2], source[1]) if rank > 3 else (None, None, None)
    if rank != len(source) + 1 or perm != [0, 2, 1, *range(3, rank)] or middle[3:] != source[2:]:
        return None
    if not (isinstance(groups, int) and isinstance(each, int) and channels == groups * each and middle[0] == source[0]):
        return None
    return Move(first, last, np.arange(groups * each).reshape(groups, each).T.reshape(-1))


def _only(node: ir.Node, kind: str, maker_kind: str) -> ir.Node | None:
    """The maker of the node's first input, where both are of these kinds and nothing else reads it."""
    value = node.inputs[0] if node.op_type == kind and node.inputs else None
    maker = value.producer() if value is not None else None
    fits = value is not None and maker is not None and maker.op_type == maker_kind
    return maker if fits and value is not None and graph.only_consumer(value) is node else None
