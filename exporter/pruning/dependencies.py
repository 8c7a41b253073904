"""The dependency graph of channels: which must go together, and what each of them costs.

Layers make new channels, sums join theirs, concatenations string them together, depthwise convolutions and pools hand
them on, and zero padding adds some that nothing makes. Whatever has no rule holds its channels fast.
"""

from __future__ import annotations

import onnx_ir as ir

from exporter import graph
from exporter.pruning.channels import Channels
from exporter.pruning.rules import by_rule

__all__ = ["channels_of"]


def channels_of(model: ir.Model) -> Channels:
    """Of a prepared float graph. Shapes must be known but for the batch."""
    found = Channels()
    for value in model.graph.inputs:
        _fixed(found, value)
    for node in model.graph:
        if not by_rule(found, node):
            for source in node.inputs:
                if source is not None and source.name in found.of:
                    found.hold(found.of[source.name][1])
            for value in node.outputs:
                _fixed(found, value)
    for output in model.graph.outputs:
        if output.name in found.of:
            found.hold(found.of[output.name][1])
    return found


def _fixed(found: Channels, value: ir.Value) -> None:
    shape = graph.shape_of(value)
    if shape is None or len(shape) < 2 or shape[1] is None or value.name is None:
        return
    ids = found.new(shape[1])
    found.of[value.name] = (1, ids)
    found.hold(ids)
