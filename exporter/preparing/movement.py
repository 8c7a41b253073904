"""Promise: chains of Transpose, Reshape, Slice and Unsqueeze are as short as they can be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter.rules import common

from exporter import graph
from exporter.preparing.rewriting import rewrite

__all__ = ["movement"]


def movement(model: ir.Model) -> None:
    """Merge neighbours that only move values; drop those that move nothing."""
    rewrite(
        model,
        [
            common.no_op_transpose_rule,
            common.transpose_transpose_rule,
            common.reshape_reshape_rule,
            common.unsqueeze_unsqueeze_rule,
            common.no_op_expand_rule,
            common.collapse_slice_rule,
            common.collapse_slice2_rule,
        ],
    )
    for node in list(model.graph):
        if node.op_type == "Slice":
            _merge_slices(model.graph, node)


def _merge_slices(g: ir.Graph, node: ir.Node) -> None:
    """A Slice of a Slice along other axes is one Slice of both."""
    source = node.inputs[0]
    before = source.producer() if source is not None else None
    if source is None or before is None or before.op_type != "Slice" or graph.only_consumer(source) is not node:
        return
    first, second = _bounds(before), _bounds(node)
    if first is None or second is None or set(first[2]) & set(second[2]):
        return
    for place, (a, b) in enumerate(zip(first, second, strict=True), 1):
        name = graph.fresh_name(g, f"{node.outputs[0].name}_{('starts', 'ends', 'axes', 'steps')[place - 1]}")
        value = graph.add_initializer(g, name, np.asarray([*a, *b], np.int64))
        if len(node.inputs) <= place:
            node.resize_inputs(place + 1)
        node.replace_input_with(place, value)
    node.replace_input_with(0, before.inputs[0])
    g.remove(before, safe=True)


def _bounds(node: ir.Node) -> tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]] | None:
    """Constant starts, ends, axes and steps; the axes counted from the front."""
    source = node.inputs[0]
    rank = len(source.shape) if source is not None and source.shape is not None else 0
    given = [*node.inputs[1:], None, None][:4]
    arrays = [None if v is None else graph.constant(v) for v in given]
    if not rank or any(v is not None and a is None for v, a in zip(given, arrays, strict=True)):
        return None
    starts, ends = ([int(i) for i in a] if a is not None else [] for a in arrays[:2])
    axes = list(range(len(starts))) if arrays[2] is None else [int(a) % rank for a in arrays[2]]
    steps = [1] * len(starts) if arrays[3] is None else [int(s) for s in arrays[3]]
    return starts, ends, axes, steps
