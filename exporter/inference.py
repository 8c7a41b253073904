"""Shapes and types by onnx's inference, and what must not reach it."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir

from exporter.ceilings import drop_empty_windows
from exporter.errors import GraphError

__all__ = ["infer_shapes", "refuse_negative_sizes"]

_SHAPING = 1 << 16  # bytes; constants that decide a shape are smaller
_COUNTED = frozenset({"Range", "ConstantOfShape", "Expand"})  # onnx's inference may list all their numbers
_MOST = 1 << 40  # elements; no machine holds a larger tensor


def infer_shapes(model: ir.Model) -> None:
    """Fill in shapes and types with onnx's inference, which sees small constants and never copies large ones.

    What it cannot find out stays as it was. Raises GraphError for a tensor that no machine could hold.
    (onnx_ir's own pass hands every initializer over as an input, whose numbers
    inference must not trust, so that a Resize by constant scales keeps an unknown shape.)
    """
    _infer(model)
    while any(drop_empty_windows(node) for node in model.graph):
        _infer(model)


def _infer(model: ir.Model) -> None:
    copy = model.clone()
    for name, value in list(copy.graph.initializers.items()):
        if value.const_value is None or value.const_value.nbytes > _SHAPING:
            del copy.graph.initializers[name]
            if value not in copy.graph.inputs:
                copy.graph.inputs.append(value)
    proto = ir.to_proto(copy)
    try:
        refuse_negative_sizes(proto)
        counts = any(node.op_type in _COUNTED for node in model.graph)
        lists = not _is_large(_inferred(proto, False) if counts else proto)
        proto = _inferred(proto, lists)
        _is_large(proto)
    except onnx.shape_inference.InferenceError:
        return  # shapes that contradict each other: whoever needs one says which
    _take_shapes(model.graph, proto.graph)


def _inferred(proto: onnx.ModelProto, lists: bool) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=lists)


def refuse_negative_sizes(proto: onnx.ModelProto) -> None:
    """Look for negative sizes before onnx's inference of Slice does, which ends the process where it meets one.

    Slices of what has no shape yet are hidden from it, and come back one behind the other.
    """
    doubtful = _doubtful_slices(proto.graph)
    for level in range(1, max(doubtful.values(), default=0) + 1):
        hidden = onnx.ModelProto()
        hidden.CopyFrom(proto)
        hidden.opset_import.add(domain="kbit.hidden", version=1)
        for place, turn in doubtful.items():
            if turn >= level:
                hidden.graph.node[place].domain = "kbit.hidden"
        for info in _inferred(hidden, False).graph.value_info:
            sizes = [d.dim_value for d in info.type.tensor_type.shape.dim]
            if min(sizes, default=0) < 0:
                raise GraphError(f"{info.name!r} would have the shape {sizes}", "look at the sizes that lead to it")


def _doubtful_slices(graph: onnx.GraphProto) -> dict[int, int]:
    """Slices of a value without a known shape: place in the graph -> how many of them lie on the way, and itself."""
    sure = {value.name for value in graph.initializer}
    named = {d.dim_param for info in graph.input for d in info.type.tensor_type.shape.dim}
    for info in [*graph.input, *graph.value_info]:
        shape = info.type.tensor_type.shape
        known = info.type.tensor_type.HasField("shape")
        if known and all(d.dim_value > 0 or (d.dim_param and d.dim_param in named) for d in shape.dim):
            sure.add(info.name)
    turns: dict[str, int] = {}
    found: dict[int, int] = {}
    for place, node in enumerate(graph.node):
        turn = max((turns.get(name, 0) for name in node.input), default=0)
        if node.op_type == "Slice" and node.input[0] not in sure:
            turn += 1
            found[place] = turn
        turns.update(dict.fromkeys(node.output, turn))
    return found


def _is_large(proto: onnx.ModelProto) -> bool:
    """Is there a vector too large to be a shape?"""
    found = False
    for info in [*proto.graph.input, *proto.graph.value_info, *proto.graph.output]:
        sizes = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if math.prod(sizes) > _MOST:
            raise GraphError(f"{info.name!r} would hold {math.prod(sizes)} elements")
        found = found or (len(sizes) == 1 and sizes[0] > _SHAPING)
    return found


def _take_shapes(graph: ir.Graph, proto: onnx.GraphProto) -> None:
    found = {info.name: info for info in [*proto.value_info, *proto.output]}
    for node in graph:
        for value in node.outputs:
            if value.name in found:
                typed = ir.from_proto(found[value.name])
                value.shape = typed.shape if typed.shape is not None else value.shape
                value.type = typed.type if typed.type is not None else value.type
