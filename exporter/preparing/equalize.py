"""Promise: the channels between two layers have weights of like range on both sides; the network computes the same.

Cross-layer equalization, Nagel et al. 2019, section 4.1: scaling a channel down before a Relu and up after it changes
nothing but the ranges, and one scale for a whole tensor then fits all its channels. A Clip with lower bound 0 becomes
a Relu first, as in the paper (a bound for each channel has no integer kernel): where it really clips, the network does
change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph

__all__ = ["equalize"]

Doubles = npt.NDArray[np.float64]
_LAYERS = frozenset({"Conv", "Gemm"})
_THROUGH = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"})  # f(s x) = s f(x), s > 0
_ROUNDS = 50
_SETTLED = 1e-3  # of the logarithm of a scale
_MOST = 1e4  # of a scale: a channel that is all but dead must not blow up the other side


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two layers whose channels are tied only to each other; ``repeat``: inputs of the second for one channel."""

    first: ir.Node
    second: ir.Node
    repeat: int


def equalize(model: ir.Model) -> int:
    """Every pair in turn until the scales settle: chains of three, as around a depthwise convolution, need several.

    Returns how many pairs there are.
    """
    _open_clips(model)
    pairs = list(_pairs(model))
    weights = {id(n): _own(n, 1) for pair in pairs for n in (pair.first, pair.second)}
    biases = {id(p.first): _own(p.first, 2) for p in pairs}
    for _ in range(_ROUNDS):
        moved = 0.0
        for pair in pairs:
            before, after = weights[id(pair.first)], weights[id(pair.second)]
            own, theirs = _by_output(pair.first, before), _by_input(pair.second, after)
            r1 = np.abs(own).max(axis=1)
            r2 = np.abs(theirs).max(axis=(1, 3)).reshape(len(r1), -1).max(axis=1)
            alive = (r1 > 0) & (r2 > 0)
            scale = np.ones_like(r1)
            scale[alive] = np.clip(np.sqrt(r1[alive] / r2[alive]), 1 / _MOST, _MOST)
            own /= scale[:, None]
            theirs *= np.repeat(scale, pair.repeat).reshape(theirs.shape[0], 1, theirs.shape[2], 1)
            bias = biases[id(pair.first)]
            if bias is not None:
                bias /= scale
            moved = max(moved, float(np.abs(np.log(scale)).max(initial=0.0)))
        if moved < _SETTLED:
            break
    for pair in pairs:
        _write(pair.first, 1, weights[id(pair.first)])
        _write(pair.second, 1, weights[id(pair.second)])
        if biases[id(pair.first)] is not None:
            _write(pair.first, 2, biases[id(pair.first)])
    return len(pairs)


def _open_clips(model: ir.Model) -> None:
    for node in list(model.graph):
        if node.op_type != "Clip" or len(node.inputs) < 2:
            continue
        low = graph.constant(node.inputs[1])
        maker = node.inputs[0].producer() if node.inputs[0] is not None else None
        reader = graph.only_consumer(node.outputs[0])
        if low is None or low.size != 1 or float(low.item()) != 0.0 or maker is None or reader is None:
            continue
        if maker.op_type in _LAYERS and _second(reader) is not None:
            node.op_type = "Relu"
            node.resize_inputs(1)


def _pairs(model: ir.Model) -> Iterator[_Pair]:
    for first in model.graph:
        if (
            first.op_type not in _LAYERS
            or not _constant(first, 1)
            or (len(first.inputs) > 2 and not _constant(first, 2))
        ):
            continue
        found = graph.only_consumer(first.outputs[0])
        second = None if found is None else _second(found)
        if second is None or second is first:
            continue
        channels, inputs = _rows_of(first), _inputs_of(second)
        if inputs % channels == 0:
            yield _Pair(first, second, inputs // channels)


def _second(node: ir.Node | None) -> ir.Node | None:
    """The layer that alone reads this, seen through operators that a positive scale passes."""
    while node is not None:
        if node.op_type in _LAYERS:
            return node if _constant(node, 1) else None
        if node.op_type not in _THROUGH and not _flattens(node):
            return None
        node = graph.only_consumer(node.outputs[0])
    return None


def _flattens(node: ir.Node) -> bool:
    """[N,C,…] -> [N, C x …]: channels stay in order."""
    source, result = node.inputs[0], node.outputs[0]
    if node.op_type not in {"Flatten", "Reshape", "Squeeze"} or source is None:
        return False
    if source.shape is None or result.shape is None or len(source.shape) < 2:
        return False
    rest = source.shape[1:]
    if len(result.shape) != 2 or not all(isinstance(d, int) for d in rest) or not isinstance(result.shape[1], int):
        return False
    return int(np.prod([int(d) for d in rest])) == result.shape[1]  # type: ignore[arg-type]


def _constant(node: ir.Node, index: int) -> bool:
    """A constant that no other node reads?"""
    value = node.inputs[index] if len(node.inputs) > index else None
    return value is not None and graph.constant(value) is not None and graph.only_consumer(value) is node


def _is_turned(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and not node.attributes.get_int("transB", 0)


def _own(node: ir.Node, index: int) -> Doubles | None:
    array = graph.constant(node.inputs[index]) if len(node.inputs) > index else None
    return None if array is None else np.array(array, np.float64)


def _rows_of(node: ir.Node) -> int:
    array = graph.constant(node.inputs[1])
    assert array is not None
    return int(array.shape[1] if _is_turned(node) else array.shape[0])


def _inputs_of(node: ir.Node) -> int:
    array = graph.constant(node.inputs[1])
    assert array is not None
    if node.op_type == "Conv":
        return int(array.shape[1]) * node.attributes.get_int("group", 1)
    return int(array.shape[0] if _is_turned(node) else array.shape[1])


def _by_output(node: ir.Node, weight: Doubles | None) -> Doubles:
    """A view [outputs, rest]."""
    assert weight is not None
    return weight.T if _is_turned(node) else weight.reshape(weight.shape[0], -1)


def _by_input(node: ir.Node, weight: Doubles | None) -> Doubles:
    """A view [groups, outputs of a group, inputs of a group, rest]."""
    assert weight is not None
    if node.op_type == "Gemm":
        return _by_output(node, weight)[None, :, :, None]
    groups = node.attributes.get_int("group", 1)
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def _write(node: ir.Node, index: int, array: Doubles | None) -> None:
    value = node.inputs[index]
    assert value is not None
    value.const_value = ir.tensor(np.asarray(array, np.float32), name=value.name)
