"""Promise: channel shuffles are gone where the convolutions around them can take their channels in another order.

A shuffle (ShuffleNet, Zhang et al. 2018, section 3.1) interleaves the channels of its groups, in channels-last byte by
byte. Here the convolutions that make the channels make them sorted by who reads them, so that every reader takes whole
runs, and a reader's weights follow the order in which its runs are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.preparing.channel_moves import Move, Order, regions

__all__ = ["shuffles"]

_POINTWISE = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Identity"})


def shuffles(model: ir.Model) -> None:
    """Whole regions of shuffles, joins and splits at once; one that is not all free stays as it is."""
    for moves in regions(model.graph):
        region = _Region(moves)
        if region.understood():
            region.rewrite(model.graph)


@dataclass(frozen=True, slots=True)
class _Edit:
    """A convolution whose input channels (one: its own channels, and so its output's) come in another order."""

    conv: ir.Node
    depthwise: bool


@dataclass(slots=True)
class _Region:
    """moves: what hangs together, in the order of the graph.

    origins  what comes in, and the convolution that makes it
    sinks    what goes out, and the convolutions that take it
    channels of each value, numbered through all origins
    """

    moves: Sequence[Move]
    origins: dict[ir.Value, ir.Node] = field(default_factory=dict)
    sinks: dict[ir.Value, list[_Edit]] = field(default_factory=dict)
    channels: dict[ir.Value, Order] = field(default_factory=dict)

    def understood(self) -> bool:
        """Finds origins, sinks and channels; False where one cannot be reordered."""
        inside = {v for move in self.moves for v in move.results}
        for move in self.moves:
            for value in move.sources:
                if value not in inside and value not in self.origins:
                    conv, width = _maker(value), _width(value)
                    if conv is None or width is None or len(graph.consumers(value)) != 1:
                        return False
                    start = sum(len(self.channels[v]) for v in self.origins)
                    self.origins[value], self.channels[value] = conv, np.arange(start, start + width)
            if not self._follow(move):
                return False
            for value in move.results:
                edits = self._edits(value)
                if edits is None:
                    return False
                if edits:
                    self.sinks[value] = edits
        used = np.concatenate([self.channels[v] for v in self.sinks] or [np.zeros(0, np.int64)])
        total = sum(len(self.channels[v]) for v in self.origins)
        return len(np.unique(used)) == total and all(
            len(np.unique(self.channels[v])) == len(self.channels[v]) for v in self.sinks
        )

    def _follow(self, move: Move) -> bool:
        sources = [self.channels[v] for v in move.sources]
        if move.order is not None:
            parts = [sources[0][move.order]]
        elif move.first.op_type == "Concat":
            parts = [np.concatenate(sources)]
        else:
            widths = [_width(v) for v in move.results]
            if None in widths:
                return False
            parts = np.split(sources[0], np.cumsum([w or 0 for w in widths])[:-1])
        self.channels.update(zip(move.results, parts, strict=True))
        return all(_width(v) == len(p) for v, p in zip(move.results, parts, strict=True))

    def _outside(self, value: ir.Value) -> list[ir.Node]:
        """Those that read the value and are no moves of the region."""
        return [r for r in graph.consumers(value) if not any(r is m.first for m in self.moves)]

    def _edits(self, value: ir.Value) -> list[_Edit] | None:
        """What has to change in those that read the value; None where one needs the true order."""
        if value.is_graph_output():
            return None
        edits: list[_Edit] = []
        for reader in self._outside(value):
            found = _absorbed(value, reader)
            if found is None:
                return None
            edits += found
        return edits

    def rewrite(self, g: ir.Graph) -> None:
        """Sorted origins, cut where their readers part; joined runs for each sink."""
        readers = {channel: 0 for v in self.origins for channel in self.channels[v].tolist()}
        for place, value in enumerate(self.sinks):
            for channel in self.channels[value].tolist():
                readers[channel] |= 1 << place
        runs: list[tuple[int, Order, ir.Value]] = []
        for value, conv in self.origins.items():
            own = self.channels[value]
            order = np.asarray(sorted(range(len(own)), key=lambda i: (readers[int(own[i])], i)))
            for index in (1, 2):
                _take(g, conv, index, order, 0)
            masks = [readers[int(c)] for c in own[order]]
            ends = [i for i in range(1, len(masks) + 1) if i == len(masks) or masks[i] != masks[i - 1]]
            starts = [0, *ends[:-1]]
            parts = _cut(g, value, [e - s for s, e in zip(starts, ends, strict=True)])
            runs += [(masks[s], own[order[s:e]], p) for s, e, p in zip(starts, ends, parts, strict=True)]
        for place, (value, edits) in enumerate(self.sinks.items()):
            mine = [(channels, part) for mask, channels, part in runs if mask >> place & 1]
            joined = _joined(g, value, [part for _, part in mine])
            where = {int(c): i for i, c in enumerate(self.channels[value])}
            order = np.asarray([where[int(c)] for channels, _ in mine for c in channels])
            for reader in self._outside(value):
                reader.replace_input_with(0, joined)
            for edit in edits:
                for index in (1, 2) if edit.depthwise else (1,):
                    _take(g, edit.conv, index, order, 0 if edit.depthwise else 1)


def _width(value: ir.Value) -> int | None:
    width = value.shape[1] if value.shape is not None and len(value.shape) > 2 else None
    return width if isinstance(width, int) else None


def _is_conv(node: ir.Node) -> bool:
    known = node.op_type == "Conv" and not node.domain and all(graph.constant(v) is not None for v in node.inputs[1:])
    return known and len(node.inputs) in {2, 3}


def _maker(value: ir.Value) -> ir.Node | None:
    """The convolution of one group whose channels these are, behind activations that nothing else reads."""
    node = value.producer()
    while node is not None and node.op_type in _POINTWISE and not node.domain and node.inputs[0] is not None:
        if graph.only_consumer(node.inputs[0]) is not node:
            return None
        node = node.inputs[0].producer()
    if (
        node is None
        or not _is_conv(node)
        or graph.attribute(node, "group", 1) != 1
        or node.outputs[0].is_graph_output()
    ):
        return None
    return node


def _absorbed(value: ir.Value, reader: ir.Node | None) -> list[_Edit] | None:
    """Convolutions to change where a reader takes the value's channels in another order."""
    if reader is None:
        return None
    if reader.op_type in _POINTWISE and not reader.domain:
        return _absorbed(reader.outputs[0], graph.only_consumer(reader.outputs[0]))
    if not _is_conv(reader) or any(v is value for v in reader.inputs[1:]):
        return None
    if graph.attribute(reader, "group", 1) == 1:
        return [_Edit(reader, depthwise=False)]
    weight = graph.constant(reader.inputs[1])
    if weight is None or weight.shape[:2] != (_width(value), 1):
        return None
    behind = _absorbed(reader.outputs[0], graph.only_consumer(reader.outputs[0]))
    return None if behind is None else [_Edit(reader, depthwise=True), *behind]


def _take(g: ir.Graph, conv: ir.Node, index: int, order: Order, axis: int) -> None:
    """Weights or bias in another order, under a name of their own."""
    value = conv.inputs[index] if index < len(conv.inputs) else None
    array = graph.constant(value)
    if value is None or array is None or np.array_equal(order, np.arange(len(order))):
        return
    name = graph.fresh_name(g, f"{value.name}_sorted")
    conv.replace_input_with(index, graph.add_initializer(g, name, np.ascontiguousarray(np.take(array, order, axis))))


def _cut(g: ir.Graph, value: ir.Value, widths: Sequence[int]) -> list[ir.Value]:
    if len(widths) == 1:
        return [value]
    shape, stem, maker = value.shape, value.name, value.producer()
    assert shape is not None
    assert maker is not None
    sizes = graph.add_initializer(g, graph.fresh_name(g, f"{stem}_widths"), np.asarray(widths, np.int64))
    parts = [
        ir.Value(
            name=graph.fresh_name(g, f"{stem}_run_{i}"), shape=ir.Shape([shape[0], w, *shape[2:]]), type=value.type
        )
        for i, w in enumerate(widths)
    ]
    g.insert_after(maker, ir.node("Split", [value, sizes], {"axis": 1}, outputs=parts, name=f"{stem}_runs"))
    return parts


def _joined(g: ir.Graph, value: ir.Value, parts: Sequence[ir.Value]) -> ir.Value:
    if len(parts) == 1:
        return parts[0]
    name = graph.fresh_name(g, f"{value.name}_runs")
    result, maker = ir.Value(name=name, shape=value.shape, type=value.type), value.producer()
    assert maker is not None
    g.insert_after(maker, ir.node("Concat", list(parts), {"axis": 1}, outputs=[result], name=name))
    return result
