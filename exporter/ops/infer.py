"""Shapes that onnx's own inference does not find (see ``Op.infer``)."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from exporter import graph

__all__ = ["like_first", "sizes_of"]


def sizes_of(node: ir.Node, index: int) -> tuple[int, ...]:
    """Shape of an input that is known."""
    value = node.inputs[index]
    shape = graph.shape_of(value) if value is not None else None
    assert shape is not None
    return tuple(d for d in shape if d is not None)


def like_first(node: ir.Node) -> Sequence[tuple[int, ...]]:
    """The output has the shape of the first input."""
    return [sizes_of(node, 0)]
