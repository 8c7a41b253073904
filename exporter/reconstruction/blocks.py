"""Where a network is cut: blocks of layers that one tensor alone connects.

Li et al. 2021, section 3.2: layers of a block depend on each other, blocks hardly do. A block ends where no other value
that weights have had a hand in is still to be read, as behind the sum of a residual block, once it holds two layers;
of several such places the last of the largest tensor, before a pooling: it tells most of what the block does.
Masks and positions, which depend on no weight, pass by. A network without such a place is one block.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from exporter import graph
from exporter.ops import OPS

__all__ = ["Block", "blocks_of"]

_FEWEST = 2  # layers


@dataclass(frozen=True, slots=True)
class Block:
    """inputs, outputs: values of the graph between which its nodes lie."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def piece(self, model: ir.Model) -> ir.Model:
        """The block as a graph of its own; the names of values and nodes stay."""
        inside = ir.convenience.extract(model.graph, list(self.inputs), list(self.outputs))
        return ir.Model(inside, ir_version=model.ir_version, functions=[])


def blocks_of(model: ir.Model) -> list[Block]:
    """In graph order; together they hold every layer."""
    nodes = list(model.graph)
    ends = _ends(model, nodes)
    found: list[Block] = []
    start, end, layer = 0, -1, 0
    for place, node in enumerate(nodes):
        if _is_layer(node):
            if end >= start and sum(map(_is_layer, nodes[start : end + 1])) >= _FEWEST:
                found.append(_block(nodes[start : end + 1], [str(ends[end].name)]))
                start = end + 1
            layer = place
        if place in ends and (end < layer or _size(ends[place]) >= _size(ends[end])):
            end = place
    return [*found, _block(nodes[start:], [str(v.name) for v in model.graph.outputs])]


def _is_layer(node: ir.Node) -> bool:
    """Does it multiply with a weight, or look one up?"""
    row = OPS.get(node.op_type)
    return row is not None and any(
        graph.constant(value) is not None and row.role(index) == "weight" for index, value in enumerate(node.inputs)
    )


def _size(value: ir.Value) -> int:
    """Numbers of one sample, as far as they are known."""
    return math.prod(d for d in value.shape or () if isinstance(d, int))


def _read(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _ends(model: ir.Model, nodes: Sequence[ir.Node]) -> Mapping[int, ir.Value]:
    """By the place of a node behind which one value alone of those that depend on weights is read: that value."""
    last = {str(v.name): place for place, node in enumerate(nodes) for v in _read(node)}
    last |= {str(v.name): len(nodes) for v in model.graph.outputs}
    depending: set[str] = set()
    alive: dict[str, ir.Value] = {}
    found: dict[int, ir.Value] = {}
    for place, node in enumerate(nodes):
        if _is_layer(node) or any(v.name in depending for v in _read(node)):
            made = {str(v.name): v for v in node.outputs if v.name}
            depending |= made.keys()
            alive |= made
        alive = {name: value for name, value in alive.items() if last.get(name, -1) > place}
        if len(alive) == 1:
            found[place] = next(iter(alive.values()))
    return found


def _block(nodes: Sequence[ir.Node], outputs: Collection[str]) -> Block:
    inside = {str(v.name) for node in nodes for v in node.outputs}
    outside = {str(v.name): v for node in nodes for v in _read(node) if v.name not in inside}
    inputs = tuple(name for name, v in outside.items() if v.is_graph_input() or graph.constant(v) is None)
    return Block(inputs, tuple(name for name in outputs if name in inside))
