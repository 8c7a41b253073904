"""Which tensors share a scale, which scales may move, and how those around sums are aligned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops import OPS, Fixed, Same
from exporter.quantize.regions import activation_inputs, fused_activation, is_float
from exporter.quantize.requantized import align_requantized
from exporter.quantize.sums import align_sums
from exporter.quantize.ties import Ties
from exporter.quantize.widths import Grid, Widths
from exporter.types import Plan, QParams, TensorPlan

__all__ = ["align", "aligned", "shared_scales", "ties_of"]


def ties_of(widths: Widths, grids: Mapping[str, Grid]) -> tuple[Ties, dict[str, Fixed]]:
    """Groups of equal scale, and the fixed rule of a group by its leader."""
    ties = Ties(grids)
    for node in widths.nodes:
        if isinstance(widths.rule(node), Same):
            ties.tie(widths.names(node, grids))
    fixed: dict[str, Fixed] = {}
    for node in widths.nodes:
        rule = widths.rule(node)
        if isinstance(rule, Fixed):
            fixed[ties.leader(widths.name(node.outputs[0], node))] = rule
    return ties, fixed


def align(widths: Widths, ties: Ties, fixed: Mapping[str, Fixed], tensors: dict[str, TensorPlan]) -> None:
    """Widen int8 scales around sums and requantizations so that every kernel rounds them alike (exporter.quantize.sums
    and exporter.quantize.requantized)."""
    triples = []
    for node in widths.nodes:
        if node.op_type not in {"Add", "Sub"} or widths.bits(node) != 8:
            continue
        follower = fused_activation(node)
        result = node.outputs[0] if _named(node.outputs[0]) in tensors or follower is None else follower.outputs[0]
        names = [widths.name(v, node) for v in [*activation_inputs(node, OPS[node.op_type]), result]]
        if len(names) == 3 and all(n in tensors for n in names):
            triples.append((ties.leader(names[0]), ties.leader(names[1]), ties.leader(names[2])))
    scales = {leader: _scale_of(tensors[leader]) for leader in ties.groups()}
    held = {*fixed, *_clipped(widths, ties)}
    wider = align_sums(triples, scales, list(held))
    summed = {leader for triple in triples for leader in triple}
    zeros = {leader: _zero_of(tensors[leader]) for leader in ties.groups()}
    wider |= align_requantized(_requantized(widths, ties), scales | wider, zeros, held | summed)
    for leader, scale in wider.items():
        share = 100 * (scale / scales[leader] - 1)
        for name in ties.groups()[leader]:
            old = tensors[name]
            assert old.qparams is not None
            qparams = QParams(old.qparams.scheme, np.asarray(scale, np.float32), old.qparams.zero_point)
            why = f"{old.why}; widened by {share:.2f} % so that all kernels round alike"
            tensors[name] = TensorPlan(name, "activation", qparams, why, old.rounder)


def _requantized(widths: Widths, ties: Ties) -> list[tuple[str, str]]:
    """(own group, group of the Concat) of each tensor that a Concat reads on a second grid of the same width."""
    found = []
    for node in widths.nodes:
        for value in activation_inputs(node, OPS[node.op_type]):
            name = widths.name(value, node)
            if name != value.name and widths.bits(node) == widths.own(value) == 8 and name in ties:
                found.append((ties.leader(_named(value)), ties.leader(name)))
    return found


def shared_scales(model: ir.Model, plan: Plan) -> list[tuple[list[str], bool]]:
    """Activations of an int8 plan in groups of one scale each, and whether that scale may be another one."""
    widths, ties, fixed = _planned(model, plan)
    held = {*fixed, *_clipped(widths, ties)}
    return [(names, leader not in held) for leader, names in ties.groups().items()]


def aligned(model: ir.Model, plan: Plan) -> Plan:
    """The plan with scales around sums widened, after activation scales have changed."""
    widths, ties, fixed = _planned(model, plan)
    tensors = dict(plan.grids)
    align(widths, ties, fixed, tensors)
    return plan.with_grids(tensors)


def _planned(model: ir.Model, plan: Plan) -> tuple[Widths, Ties, dict[str, Fixed]]:
    """The nodes that run on integers in this int8 plan, and their groups."""
    outside = {*plan.float_nodes, *plan.dynamic_nodes}
    planned = {name for name, tensor in plan.grids.items() if tensor.role == "activation"}
    apart = [(border.source, reader) for border in plan.borders for reader in border.readers]
    nodes = [
        node
        for node in model.graph
        if node.op_type in OPS
        and graph.node_name(node) not in outside
        and any(is_float(v) for v in [*node.inputs, *node.outputs])
    ]
    grids = {name: grid for name, grid in Widths(nodes, {}, apart).grids().items() if name in planned}
    widths = Widths([n for n in nodes if _result(n, grids)], {}, apart)
    return widths, *ties_of(widths, grids)


def _result(node: ir.Node, activations: Mapping[str, Grid]) -> bool:
    follower = fused_activation(node)
    places = [*node.outputs, *([] if follower is None else follower.outputs)]
    return any(_named(v) in activations for v in places)


def _clipped(widths: Widths, ties: Ties) -> set[str]:
    """Leaders of what a Clip gives: it is dropped only while the grid ends at its bound."""
    return {ties.leader(widths.name(n.outputs[0], n)) for n in widths.nodes if n.op_type == "Clip"}


def _scale_of(tensor: TensorPlan) -> float:
    assert tensor.qparams is not None
    return float(tensor.qparams.scale)


def _zero_of(tensor: TensorPlan) -> int:
    assert tensor.qparams is not None
    return int(tensor.qparams.zero_point)


def _named(value: ir.Value) -> str:
    assert value.name is not None  # the verifier holds this
    return value.name
