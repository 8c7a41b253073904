"""What each operator does with the channels of what it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.pruning.channels import Channels, Ids, Layer

__all__ = ["by_rule"]

_SAME = frozenset(
    {
        "Abs", "BatchNormalization", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish",
        "Identity", "LeakyRelu", "Mish", "Neg", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt",
        "Swish", "Tanh",
    }
)  # fmt: skip
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
_PAIRS = frozenset({"Add", "Div", "Max", "Min", "Mul", "Sub"})


def by_rule(found: Channels, node: ir.Node) -> bool:
    """Whether the node's rule applies; its outputs then have identities."""
    source = node.inputs[0] if node.inputs else None
    known = found.of.get(str(source.name)) if source is not None else None
    kind = node.op_type
    if kind in _PAIRS:
        return _pair(found, node)
    if kind == "Concat":
        return _concat(found, node)
    rule = _RULES.get(kind)
    if known is None and rule is _linear:
        known = (0, found.new(0))
    if known is None or rule is None or node.domain not in {"", "ai.onnx"}:
        return False
    return rule(found, node, *known)


def _give(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    found.of[str(node.outputs[0].name)] = (axis, ids)
    return True


def _same(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    if node.op_type == "BatchNormalization" and axis != 1:
        return False
    for value in node.inputs[1:]:
        array = graph.constant(value)
        if array is None and value is not None:
            return False
        if array is not None and array.size > 1:
            place = axis - (_rank(node) - array.ndim) if node.op_type == "PRelu" else 0
            if array.ndim <= place or place < 0 or array.shape[place] != len(ids):
                return False
            found.slot(value, place, ids)
    return _give(found, node, axis, ids)


def _pool(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    return axis == 1 and len(node.outputs) == 1 and _give(found, node, axis, ids)


def _conv(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    weight = graph.constant(node.inputs[1])
    shape = graph.shape_of(node.outputs[0])
    groups = node.attributes.get_int("group", 1)
    transposed = node.op_type == "ConvTranspose"
    if axis != 1 or weight is None or shape is None or None in shape[2:] or (transposed and groups != 1):
        return False
    each = int(np.prod(weight.shape[2:])) * int(np.prod([d for d in shape[2:] if d is not None]))
    if groups == 1:
        made = found.new(weight.shape[1 if transposed else 0])
        found.slot(node.inputs[1], 0 if transposed else 1, ids)
        found.slot(node.inputs[1], 1 if transposed else 0, made, makes=True)
        found.layers.append(Layer(node, each, ids, made))
    elif groups == len(ids):
        made = np.repeat(ids, weight.shape[0] // groups)
        found.slot(node.inputs[1], 0, made)
        found.layers.append(Layer(node, each, None, made))
    else:
        return False
    _bias(found, node, made, makes=groups == 1)
    return _give(found, node, 1, made)


def _linear(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    """What it reads may have its channels elsewhere, as tokens have: then all of its inputs stay."""
    weight, rank = graph.constant(node.inputs[1]), _rank(node)
    plain = node.attributes.get_int("transA", 0) == 0
    if weight is None or weight.ndim != 2 or rank < 2 or not plain:
        return False
    turned = node.attributes.get_int("transB", 0)
    if axis != rank - 1:
        found.hold(ids)
        ids = found.new(weight.shape[1 if turned else 0])
        found.hold(ids)
    made = found.new(weight.shape[0 if turned else 1])
    found.slot(node.inputs[1], 1 if turned else 0, ids)
    found.slot(node.inputs[1], 0 if turned else 1, made, makes=True)
    found.layers.append(Layer(node, _positions(node), ids, made))
    _bias(found, node, made, makes=True)
    return _give(found, node, rank - 1, made)


def _positions(node: ir.Node) -> int:
    """How often one sample goes through a linear layer: once for each token, also where their rows are one matrix."""
    source = node.inputs[0]
    shape = _shape(source)
    maker = None if source is None else source.producer()
    if maker is not None and maker.op_type == "Reshape" and _shape(maker.inputs[0])[-1:] == shape[-1:]:
        shape = _shape(maker.inputs[0])
    return int(np.prod([d for d in shape[1:-1] if d is not None]))


def _shape(value: ir.Value | None) -> tuple[int | None, ...]:
    return tuple((None if value is None else graph.shape_of(value)) or ())


def _bias(found: Channels, node: ir.Node, made: Ids, *, makes: bool) -> None:
    bias = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and bias.size == len(made):
        found.slot(node.inputs[2], bias.ndim - 1, made, makes=makes)


def _pair(found: Channels, node: ir.Node) -> bool:
    """Broadcast: a side that has one entry for all channels, or none, ties nothing."""
    sides = [found.of.get(str(v.name)) if v is not None else None for v in node.inputs]
    ranks = [len(graph.shape_of(v) or ()) if v is not None else 0 for v in node.inputs]
    live = [(side, rank) for side, rank in zip(sides, ranks, strict=True) if side is not None]
    rank = max(ranks)
    if not live:
        return False
    (axis, ids), own = max(live, key=lambda one: len(one[0][1]))
    axis += rank - own
    for value, side, size in zip(node.inputs, sides, ranks, strict=True):
        if side is None:
            array = graph.constant(value)
            if array is None:
                return False
            place = axis - (rank - array.ndim)
            if place >= 0 and array.shape[place] == len(ids) > 1:
                found.slot(value, place, ids)
            continue
        if side[0] + rank - size != axis:
            return False
        if len(side[1]) == len(ids):
            found.join(side[1], ids)
        elif len(side[1]) == 1:
            found.hold(side[1])
        else:
            return False
    return _give(found, node, axis, ids)


def _concat(found: Channels, node: ir.Node) -> bool:
    known = [found.of.get(str(v.name)) if v is not None else None for v in node.inputs]
    parts = [one for one in known if one is not None]
    if len(parts) < len(known) or len({axis for axis, _ in parts}) > 1:
        return False
    axis = parts[0][0]
    if node.attributes.get_int("axis") % _rank(node) == axis:
        return _give(found, node, axis, np.concatenate([ids for _, ids in parts]))
    if len({len(ids) for _, ids in parts}) > 1:
        return False
    for _, ids in parts[1:]:
        found.join(parts[0][1], ids)
    return _give(found, node, axis, parts[0][1])


def _split(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    sizes = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if sizes is None or node.attributes.get_int("axis", 0) % _rank(node) != axis:
        return False
    bounds = np.cumsum(sizes)
    found.edits.append((node, ids, bounds))
    for value, part in zip(node.outputs, np.split(ids, bounds[:-1]), strict=True):
        found.of[str(value.name)] = (axis, part)
    return True


def _slice(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    """Along other axes."""
    axes = graph.constant(node.inputs[3]) if len(node.inputs) > 3 else None
    rank = _rank(node)
    return axes is not None and axis not in [int(a) % rank for a in axes] and _give(found, node, axis, ids)


def _pad(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    pads, rank = graph.constant(node.inputs[1]), _rank(node)
    if pads is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return False
    before, after = int(pads[axis]), int(pads[axis + rank])
    if before == after == 0:
        return _give(found, node, axis, ids)
    value = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    zero = value is None or float(np.asarray(value, np.float32).reshape(-1)[0]) == 0
    if min(before, after) < 0 or node.attributes.get_string("mode", "constant") != "constant" or not zero:
        return False
    low, high = found.new(before), found.new(after)
    found.edits.append((node, low, high))
    return _give(found, node, axis, np.concatenate([low, ids, high]))


def _reshape(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    """[N, C, ...] -> [N, C x ...]: each channel becomes so many in a row. [..., C] -> [..., C]: other rows."""
    made, source = graph.shape_of(node.outputs[0]), node.inputs[0]
    shape = graph.shape_of(source) if source is not None else None
    if node.op_type == "Reshape" and graph.constant(node.inputs[1]) is None:
        return False
    if shape is not None and made is not None and axis == len(shape) - 1 and made[-1] == len(ids):
        found.edits.append((node, ids, ids))
        return _give(found, node, len(made) - 1, ids)
    if axis != 1 or made is None or shape is None or len(made) != 2 or None in shape[1:]:
        return False
    many = int(np.prod([d for d in shape[2:] if d is not None]))
    if made[1] != many * len(ids):
        return False
    wide = np.repeat(ids, many)
    found.edits.append((node, wide, wide))
    return _give(found, node, 1, wide)


def _reduce(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    source = node.inputs[0]
    rank = len(graph.shape_of(source) or ()) if source is not None else 0
    axes = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None:
        return False
    gone = [int(a) % rank for a in axes]
    if axis in gone:
        return False
    kept = node.attributes.get_int("keepdims", 1)
    return _give(found, node, axis if kept else axis - sum(a < axis for a in gone), ids)


def _transpose(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    order = graph.attribute(node, "perm")
    return isinstance(order, tuple) and _give(found, node, order.index(axis), ids)


def _resize(found: Channels, node: ir.Node, axis: int, ids: Ids) -> bool:
    scales = graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return scales is not None and scales.size > axis and scales[axis] == 1 and _give(found, node, axis, ids)


def _rank(node: ir.Node) -> int:
    return len(graph.shape_of(node.outputs[0]) or ())


_RULES: Mapping[str, Callable[[Channels, ir.Node, int, Ids], bool]] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_POOLS, _pool),
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Flatten": _reshape,
    "Gemm": _linear,
    "MatMul": _linear,
    "Pad": _pad,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
