"""Which nodes compute on integers, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops import OPS, Float, Op, Same
from exporter.ops.matmul import plain_gemm
from exporter.quantize.wishes import FLOAT_WEIGHTS, Wish

__all__ = ["Regions", "activation_inputs", "clamp_bounds", "find_regions", "fused_activation", "is_float"]

# Integer arithmetic pays only around these; a lone Add or Reshape between float nodes stays float.
_ANCHORS = frozenset({"Conv", "Gemm", "MatMul", "GlobalAveragePool", "AveragePool", "MaxPool"})
_CLAMPS = frozenset({"Relu", "Clip"})
_MASKS = -20.0  # e to it is nothing; numbers that were learned for a place stay above
_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True, slots=True)
class Regions:
    """integer: nodes in graph order. reasons: name of every float node that could matter -> why."""

    integer: tuple[ir.Node, ...]
    reasons: dict[str, str]


def is_float(value: ir.Value | None) -> bool:
    """Is this a float32 tensor?"""
    return value is not None and value.dtype == ir.DataType.FLOAT


def activation_inputs(node: ir.Node, row: Op) -> list[ir.Value]:
    """Inputs that carry numbers computed at run time (a weight that is not constant is one of them)."""
    found = []
    for index, value in enumerate(node.inputs):
        if value is None or row.role(index) in {"static", "bias"} or graph.constant(value) is not None:
            continue
        if is_float(value):
            found.append(value)
    return found


def fused_activation(node: ir.Node) -> ir.Node | None:
    """The Relu or Clip that alone reads this node's output: both runtimes clamp while they requantize.

    Not behind a node that passes its integers on: it requantizes nothing. Not a Clip whose bounds leave 0 out: a grid
    has a zero point, so that it ends at no such bound.
    """
    row = OPS.get(node.op_type)
    if len(node.outputs) != 1 or (row is not None and isinstance(row.int8, Same)):
        return None
    reader = graph.only_consumer(node.outputs[0])
    if reader is None or reader.op_type not in _CLAMPS or reader.inputs[0] is not node.outputs[0]:
        return None
    low, high = clamp_bounds(reader)
    return reader if low <= 0 <= high else None


def clamp_bounds(clamp: ir.Node) -> tuple[float, float]:
    """Of a Relu, or a Clip with constant ones; infinite where there is none, or a computed one."""
    if clamp.op_type == "Relu":
        return 0.0, float("inf")
    given = [graph.constant(v) if v is not None else None for v in [*clamp.inputs[1:], None, None][:2]]
    low = float("-inf") if given[0] is None else float(np.asarray(given[0]).reshape(()))
    return low, float("inf") if given[1] is None else float(np.asarray(given[1]).reshape(()))


def find_regions(model: ir.Model, wanted: Mapping[str, Wish]) -> Regions:
    """Split the nodes. ``wanted``: the wish for each node, by name."""
    nodes = list(model.graph)
    reasons: dict[str, str] = {}
    candidates: list[ir.Node] = []
    masked = _masked_scores(nodes)
    for node in nodes:
        why = _why_float(node, wanted[graph.node_name(node)]) or masked.get(graph.node_name(node))
        if why is None:
            candidates.append(node)
        elif any(is_float(v) for v in [*node.inputs, *node.outputs]):
            reasons[graph.node_name(node)] = why
    candidates = _anchored(_without_streams(candidates, reasons), reasons)
    return Regions(tuple(candidates), reasons)


def _why_float(node: ir.Node, wish: Wish) -> str | None:
    row = OPS.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
    if row is None:
        return f"{node.op_type} has no integer form here"
    if wish.activations in {"float", "dynamic"} or wish.weights in FLOAT_WEIGHTS:
        return f"kept in float by {wish.source}" if wish.source else f"quantize.activations is {wish.activations}"
    rule = row.rule(wish.bits)
    if isinstance(rule, Float):
        return rule.why
    if not activation_inputs(node, row):
        return "reads a float table" if node.op_type == "Gather" else "has no float activation input"
    if not all(is_float(output) for output in node.outputs):
        return "its output is not float32"
    return _weights_unfit(node, row)


def _weights_unfit(node: ir.Node, row: Op) -> str | None:
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        array = graph.constant(value)
        if row.role(index) == "bias" and (array is None or array.ndim != 1):
            return "its bias is not a constant of one dimension"
        if node.op_type == "Conv" and index == 1 and array is None:
            return "its weight is not a constant"
    if node.op_type == "Gemm" and (not plain_gemm(node) or graph.constant(node.inputs[1]) is None):
        return "a Gemm with transA, alpha, beta or a computed weight has no integer form"
    if node.op_type == "Clip" and any(v is not None and graph.constant(v) is None for v in node.inputs[1:]):
        return "its bounds are not constants"
    return None


def _masked_scores(nodes: Sequence[ir.Node]) -> dict[str, str]:
    """From the Add or Where of an attention mask to its Softmax: beside -1e4 a grid leaves nothing of the scores."""
    found = {}
    for node in nodes:
        way, maker = [node], node.inputs[0].producer() if node.op_type == "Softmax" and node.inputs[0] else None
        while maker is not None and maker.op_type in _MOVES and maker.inputs[0] is not None:
            way.append(maker)
            maker = maker.inputs[0].producer()
        if maker is not None and _is_mask(maker):
            found.update({graph.node_name(n): "an attention mask would take up the range" for n in [*way, maker]})
    return found


def _is_mask(node: ir.Node) -> bool:
    """What is added to scores; not a bias of one dimension, nor one of relative positions, which takes nothing away."""
    if node.op_type == "Where":
        return True
    arrays = [graph.constant(value) for value in node.inputs]
    shallow = any(array is not None and (array.ndim < 2 or array.min() > _MASKS) for array in arrays)
    return node.op_type == "Add" and not shallow


def _without_streams(candidates: list[ir.Node], reasons: dict[str, str]) -> list[ir.Node]:
    """Sums that only float nodes read stay in float: the residual stream of a transformer, rounded nowhere."""
    inside = {id(node) for node in candidates}
    for node in reversed(candidates):
        readers = graph.consumers(node.outputs[0])
        computed = all(graph.constant(value) is None for value in node.inputs)
        if node.op_type != "Add" or not computed or not readers or node.outputs[0].is_graph_output():
            continue
        if not any(id(reader) in inside for reader in readers):
            inside.remove(id(node))
            reasons[graph.node_name(node)] = "only float nodes read this sum"
    return [node for node in candidates if id(node) in inside]


def _anchored(candidates: list[ir.Node], reasons: dict[str, str]) -> list[ir.Node]:
    """Keep connected groups of candidates that hold at least one node worth running on integers."""
    leader = {id(node): id(node) for node in candidates}

    def find(key: int) -> int:
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for node in candidates:
        for value in node.outputs:
            for reader in graph.consumers(value):
                if id(reader) in leader:
                    leader[find(id(reader))] = find(id(node))
    worth = {find(id(node)) for node in candidates if node.op_type in _ANCHORS}
    kept = []
    for node in candidates:
        if find(id(node)) in worth:
            kept.append(node)
        else:
            reasons[graph.node_name(node)] = "all its neighbours run in float"
    return kept
