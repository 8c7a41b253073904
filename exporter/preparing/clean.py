"""Promise: no dead node, unused or duplicated initializer; constants are initializers; every node has its own name."""

from __future__ import annotations

import logging

import onnx_ir as ir
import onnx_ir.passes.common as passes

__all__ = ["clean"]

# a constant that is an output stays where it is; the pass warns of each
logging.getLogger(passes.DeduplicateInitializersPass.__module__).setLevel(logging.ERROR)


def clean(model: ir.Model) -> None:
    """Tidy up after other passes; numbers, inputs and outputs do not change."""
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in list(model.graph):
        if node.op_type == "Identity" and node.domain == "":
            _drop_identity(model.graph, node)
    passes.DeduplicateInitializersPass(size_limit=1 << 12)(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.NameFixPass()(model)
    unused = [v for v in model.graph.initializers.values() if not v.uses() and not v.is_graph_output()]
    for value in unused:
        assert value.name is not None
        del model.graph.initializers[value.name]


def _drop_identity(g: ir.Graph, node: ir.Node) -> None:
    """onnx_ir's own pass gives two outputs that are equal the same name."""
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    if result.is_graph_output():
        if source.producer() is None or source.is_graph_output():
            return  # an output under a name of its own
        name = result.name
        result.replace_all_uses_with(source, replace_graph_outputs=True)
        source.name, result.name = name, None
    else:
        result.replace_all_uses_with(source)
    g.remove(node, safe=True)
