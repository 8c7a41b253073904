"""Residual branches whose channels all go: the sum that they were added in gives its other side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from exporter import graph
from exporter.pruning.channels import Channels

__all__ = ["ends_of", "without"]


def ends_of(model: ir.Model, channels: Channels, roots: Iterable[int]) -> dict[ir.Node, int]:
    """The sums that a branch of these channels ends in -> which of their inputs it is; none where it may not go.

    It may where every layer that reads these channels alone is added to something of the same shape, and nothing else
    of the network sees them.
    """
    gone = set(roots)
    ends: dict[ir.Node, int] = {}
    for layer in channels.layers:
        if layer.inputs is None or not {int(i) for i in channels.leaders(layer.inputs)} <= gone:
            continue
        made = layer.node.outputs[0]
        uses = list(made.uses())
        if len(uses) != 1 or made.is_graph_output() or uses[0].node.op_type != "Add" or uses[0].node in ends:
            return {}
        end, place = uses[0].node, uses[0].idx
        other = end.inputs[1 - place]
        if other is None or graph.shape_of(other) != graph.shape_of(end.outputs[0]) or end.outputs[0].is_graph_output():
            return {}
        ends[end] = place
    for node in _live(model, ends):
        for value in node.outputs:
            known = channels.of.get(str(value.name))
            if known is not None and gone & {int(i) for i in channels.leaders(known[1])}:
                return {}
    return ends


def _live(model: ir.Model, ends: Mapping[ir.Node, int]) -> Iterable[ir.Node]:
    """Nodes that the outputs still need without those inputs of the sums."""
    waiting = [value.producer() for value in model.graph.outputs]
    seen: set[ir.Node] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [v.producer() for i, v in enumerate(node.inputs) if v is not None and ends.get(node) != i]
    return seen


def without(model: ir.Model, ends: Mapping[ir.Node, int]) -> None:
    """The graph without these branches, in place; a Relu of what is a Relu already goes too."""
    for end, place in ends.items():
        stays, result = end.inputs[1 - place], end.outputs[0]
        assert stays is not None
        result.replace_all_uses_with(stays)
        producer = stays.producer()
        for reader in graph.consumers(stays):
            again = producer is not None and producer.op_type == reader.op_type == "Relu"
            if again and not reader.outputs[0].is_graph_output():
                reader.outputs[0].replace_all_uses_with(stays)
    common_passes.RemoveUnusedNodesPass()(model)
