"""Which tensors share a scale, which scales may move, and how those around sums are aligned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops import OPS, Fixed, Same
from exporter.quantize.regions import activation_inputs, fused_activation, is_float
from exporter.quantize.sums import align_sums
from exporter.quantize.ties import Ties
from exporter.types import Plan, QParams, TensorPlan

__all__ = ["activations_of", "align", "aligned", "shared_scales", "ties_of"]


def activations_of(nodes: Sequence[ir.Node]) -> dict[str, ir.Value]:
    """Values that become int8. What a fused Relu or Clip reads never exists as a tensor."""
    inside = {id(n) for n in nodes}
    found: dict[str, ir.Value] = {}
    for node in nodes:
        for value in [*activation_inputs(node, OPS[node.op_type]), *node.outputs]:
            found[_named(value)] = value
    for node in nodes:
        follower = fused_activation(node)
        if follower is not None and id(follower) in inside and not isinstance(OPS[node.op_type].int8, Fixed):
            found.pop(_named(node.outputs[0]), None)
    return found


def ties_of(nodes: Sequence[ir.Node], activations: Mapping[str, ir.Value]) -> tuple[Ties, dict[str, Fixed]]:
    """Groups of equal scale, and the fixed rule of a group by its leader."""
    ties = Ties(activations)
    for node in nodes:
        row = OPS[node.op_type]
        if isinstance(row.int8, Same):
            ties.tie([_named(v) for v in [*activation_inputs(node, row), *node.outputs] if _named(v) in activations])
    fixed: dict[str, Fixed] = {}
    for node in nodes:
        rule = OPS[node.op_type].int8
        if isinstance(rule, Fixed):
            fixed[ties.leader(_named(node.outputs[0]))] = rule
    return ties, fixed


def align(nodes: Sequence[ir.Node], ties: Ties, fixed: Mapping[str, Fixed], tensors: dict[str, TensorPlan]) -> None:
    """Widen scales around sums so that every kernel rounds them alike (see exporter.quantize.sums)."""
    triples = []
    for node in nodes:
        if node.op_type not in {"Add", "Sub"}:
            continue
        follower = fused_activation(node)
        result = node.outputs[0] if _named(node.outputs[0]) in tensors or follower is None else follower.outputs[0]
        names = [_named(v) for v in [*activation_inputs(node, OPS[node.op_type]), result]]
        if len(names) == 3 and all(n in tensors for n in names):
            triples.append((ties.leader(names[0]), ties.leader(names[1]), ties.leader(names[2])))
    scales = {leader: _scale_of(tensors[leader]) for leader in ties.groups()}
    for leader, scale in align_sums(triples, scales, [*fixed, *_clipped(nodes, ties)]).items():
        share = 100 * (scale / scales[leader] - 1)
        for name in ties.groups()[leader]:
            old = tensors[name]
            assert old.qparams is not None
            qparams = QParams(old.qparams.scheme, np.asarray(scale, np.float32), old.qparams.zero_point)
            why = f"{old.why}; widened by {share:.2f} % so that all kernels round its sums alike"
            tensors[name] = TensorPlan(name, "activation", qparams, why, old.rounder)


def shared_scales(model: ir.Model, plan: Plan) -> list[tuple[list[str], bool]]:
    """Activations of the plan in groups of one scale each, and whether that scale may be another one."""
    nodes, ties, fixed = _planned(model, plan)
    held = {*fixed, *_clipped(nodes, ties)}
    return [(names, leader not in held) for leader, names in ties.groups().items()]


def aligned(model: ir.Model, plan: Plan) -> Plan:
    """The plan with scales around sums widened, after activation scales have changed."""
    nodes, ties, fixed = _planned(model, plan)
    tensors = dict(plan.tensors)
    align(nodes, ties, fixed, tensors)
    return replace(plan, tensors=tensors)


def _planned(model: ir.Model, plan: Plan) -> tuple[list[ir.Node], Ties, dict[str, Fixed]]:
    """The nodes that run on integers in this plan, and their groups."""
    outside = {*plan.float_nodes, *plan.dynamic_nodes}
    planned = {name for name, tensor in plan.tensors.items() if tensor.role == "activation"}
    nodes = [
        node
        for node in model.graph
        if node.op_type in OPS
        and graph.node_name(node) not in outside
        and any(is_float(v) for v in [*node.inputs, *node.outputs])
    ]
    activations = {name: value for name, value in activations_of(nodes).items() if name in planned}
    nodes = [n for n in nodes if _result(n, activations)]
    ties, fixed = ties_of(nodes, activations)
    return nodes, ties, fixed


def _result(node: ir.Node, activations: Mapping[str, ir.Value]) -> bool:
    follower = fused_activation(node)
    places = [*node.outputs, *([] if follower is None else follower.outputs)]
    return any(_named(v) in activations for v in places)


def _clipped(nodes: Sequence[ir.Node], ties: Ties) -> set[str]:
    """Leaders of what a Clip gives: it is dropped only while the grid ends at its bound."""
    return {ties.leader(_named(node.outputs[0])) for node in nodes if node.op_type == "Clip"}


def _scale_of(tensor: TensorPlan) -> float:
    assert tensor.qparams is not None
    return float(tensor.qparams.scale)


def _named(value: ir.Value) -> str:
    assert value.name is not None  # the verifier holds this
    return value.name
