"""In how many bits each integer node computes, and which tensors are read on two grids."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from exporter import graph
from exporter.ops import OPS, Fixed, Rule
from exporter.quantize.regions import activation_inputs, fused_activation
from exporter.types import Scheme

__all__ = ["ACTIVATIONS", "Grid", "Widths"]

# int16 kernels take a zero point of 0 only
ACTIVATIONS = {8: Scheme(8, symmetric=False), 16: Scheme(16, symmetric=True)}


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A tensor on one grid. readers: of a second grid, the names of the nodes that read it; of its own, nothing."""

    value: ir.Value
    bits: int
    readers: tuple[str, ...] = ()


class Widths:
    """Integer nodes in graph order, and the bits of their activations by node name (8 where none are given).

    A kernel reads and writes one width. A tensor has that of the node that makes it; of what comes from outside, the
    widest that a node reads. Nodes that read it in another width read a second grid of it.

    apart  (value, node): this node reads a second grid of the value, of the same width
    """

    def __init__(
        self, nodes: Sequence[ir.Node], bits: Mapping[str, int], apart: Collection[tuple[str, str]] = ()
    ) -> None:
        self.nodes = tuple(nodes)
        self._apart = frozenset(apart)
        self._bits = {id(node): bits.get(graph.node_name(node), 8) for node in nodes}
        for node in nodes:
            follower = self._fused(node)
            if follower is not None:  # the kernel before it clamps
                self._bits[id(follower)] = self._bits[id(node)]

    def __contains__(self, node: ir.Node) -> bool:
        return id(node) in self._bits

    def bits(self, node: ir.Node) -> int:
        """8 or 16."""
        return self._bits[id(node)]

    def rule(self, node: ir.Node) -> Rule:
        """What its output's numbers look like."""
        return OPS[node.op_type].rule(self.bits(node))

    def own(self, value: ir.Value) -> int:
        """Bits of the value's own grid."""
        maker = value.producer()
        if maker is not None and maker in self:
            return self.bits(maker)
        return max((self.bits(n) for n in graph.consumers(value) if n in self), default=8)

    def name(self, value: ir.Value, node: ir.Node) -> str:
        """Of the grid in which ``node`` reads or writes the value: the value's name where that is its own."""
        assert value.name is not None  # the verifier holds this
        bits = self.bits(node)
        if bits != self.own(value):
            return f"{value.name}_int{bits}"
        reader = graph.node_name(node)
        return f"{value.name}_for_{reader}" if (value.name, reader) in self._apart else value.name

    def names(self, node: ir.Node, grids: Container[str]) -> list[str]:
        """Of what the node reads and writes, as far as it is in ``grids``: inputs first."""
        values = [*activation_inputs(node, OPS[node.op_type]), *node.outputs]
        return [name for name in (self.name(value, node) for value in values) if name in grids]

    def grids(self) -> dict[str, Grid]:
        """All that the nodes read and write, by name. What a fused Relu or Clip reads never exists as a tensor."""
        found: dict[str, Grid] = {}
        for node in self.nodes:
            for value in [*activation_inputs(node, OPS[node.op_type]), *node.outputs]:
                name, bits = self.name(value, node), self.bits(node)
                if name == value.name:
                    found[name] = Grid(value, bits)
                else:
                    before = found[name].readers if name in found else ()
                    found[name] = Grid(value, bits, tuple(dict.fromkeys([*before, graph.node_name(node)])))
        for node in self.nodes:
            if self._fused(node) is not None and not isinstance(self.rule(node), Fixed):
                found.pop(self.name(node.outputs[0], node), None)
        return found

    def _fused(self, node: ir.Node) -> ir.Node | None:
        follower = fused_activation(node)
        return follower if follower is not None and follower in self else None
