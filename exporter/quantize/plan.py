"""Graph + statistics + wishes -> Plan: every scale and zero point, decided once for all artifacts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from exporter import graph, grid
from exporter.errors import PlanError
from exporter.ops import OPS, Fixed, Same
from exporter.ops.recurrent_weights import RECURRENT
from exporter.quantize.apart import apart
from exporter.quantize.regions import activation_inputs, find_regions
from exporter.quantize.shared import align, ties_of
from exporter.quantize.ties import Ties
from exporter.quantize.weights import plan_constants, plan_stored
from exporter.quantize.widths import ACTIVATIONS, Grid, Widths
from exporter.quantize.wishes import Wish, wishes
from exporter.recipe import Quantize
from exporter.types import Border, Plan, QParams, Scheme, TensorPlan, TensorStats

__all__ = ["Observer", "make_plan", "minmax_range", "planned_activations"]

Observer = Callable[[TensorStats, Scheme], tuple[float, float]]
_DEFAULT = Quantize()


def minmax_range(stats: TensorStats, scheme: Scheme) -> tuple[float, float]:
    """The whole range that calibration saw."""
    return stats.low, stats.high


def planned_activations(model: ir.Model, quantize: Quantize = _DEFAULT) -> list[str]:
    """Names of the values whose statistics make_plan asks for: what calibration needs to watch, and no more."""
    wanted = wishes(model, quantize)
    grids = _widths(find_regions(model, wanted).integer, wanted).grids()
    return list(dict.fromkeys(_named(grid.value) for grid in grids.values()))


def make_plan(
    model: ir.Model,
    stats: Mapping[str, TensorStats],
    quantize: Quantize = _DEFAULT,
    *,
    observe: Observer = minmax_range,
    samples: bool | None = None,
) -> Plan:
    """Integer nodes: activations per tensor (int8 asymmetric, int16 symmetric), bias at input scale x weight scale.

    Others: weights only.


    model     prepared float graph (not changed)
    stats     what calibration saw, by value name; every activation of an integer node must be there
    quantize  the recipe's wishes
    observe   range of an activation from its statistics: the function that quantize.observer names
    samples   will rounding see samples? Default: it will where there are statistics
    Raises PlanError for missing statistics, a pattern that matches nothing, and wishes that no kernel grants.
    """
    seen = bool(stats) if samples is None else samples
    wanted = wishes(model, quantize)
    regions = find_regions(model, wanted)
    reasons = dict(regions.reasons)
    nodes = list(regions.integer)
    while True:
        widths = _widths(nodes, wanted)
        grids = widths.grids()
        ties, fixed = ties_of(widths, grids)
        clash = _clash(widths, ties, fixed)
        if clash is None:
            break
        nodes.remove(clash)
        reasons[graph.node_name(clash)] = "joins a tensor of fixed scale with others"
    if stats and all(wish.rounder != "brecq" for wish in wanted.values()):  # its blocks know one grid a tensor
        scale_of = lambda names: _scale(names, grids, stats, observe)  # noqa: E731
        widths = _widths(nodes, wanted, apart(widths, grids, fixed, scale_of))
        grids = widths.grids()
        ties, fixed = ties_of(widths, grids)
    tensors = _plan_activations(ties, grids, fixed, stats, observe, quantize.observer)
    align(widths, ties, fixed, tensors)
    for node in nodes:
        plan_constants(node, widths, tensors, wanted[graph.node_name(node)], samples=seen)
    dynamic = _plan_rest(model, nodes, wanted, tensors, seen)
    for name in dynamic:
        reasons.pop(name, None)
    return Plan(_in_graph_order(model, tensors), reasons, dynamic, _borders(grids, ties, tensors))


def _borders(grids: Mapping[str, Grid], ties: Ties, tensors: Mapping[str, TensorPlan]) -> tuple[Border, ...]:
    """One for each grid of a tensor beside its own, whoever reads it."""
    found: dict[tuple[str, str], Border] = {}
    for name, second in grids.items():
        if second.readers:
            key = _named(second.value), ties.leader(name)
            before = found.get(key, Border(tensors[name], key[0], ()))
            found[key] = replace(before, readers=(*before.readers, *second.readers))
    return tuple(found.values())


def _widths(nodes: Sequence[ir.Node], wanted: Mapping[str, Wish], apart: Collection[tuple[str, str]] = ()) -> Widths:
    return Widths(nodes, {name: wish.bits for name, wish in wanted.items()}, apart)


def _scale(
    names: Sequence[str], grids: Mapping[str, Grid], stats: Mapping[str, TensorStats], observe: Observer
) -> float:
    """Of one int8 grid for all of them."""
    low, high = _range([_named(grids[n].value) for n in names], stats, observe, ACTIVATIONS[8])
    return float(_qparams(low, high, ACTIVATIONS[8]).scale)


def _qparams(low: float, high: float, scheme: Scheme) -> QParams:
    """XNNPACK loads no layer whose output has next to no scale, and what was always 0 may be a little more one day."""
    return grid.qparams_from_range(low, 1.0 if low == high == 0 else high, scheme)


def _plan_rest(
    model: ir.Model,
    integer: Sequence[ir.Node],
    wanted: Mapping[str, Wish],
    tensors: dict[str, TensorPlan],
    samples: bool,
) -> dict[str, str]:
    """Weights of the nodes outside; the names of those whose input becomes integers in each run."""
    inside = {id(node) for node in integer}
    dynamic = {}
    for node in model.graph:
        wish = wanted[graph.node_name(node)]
        static = wish.activations in {"int8", "int16"} and node.op_type not in {"Gather", *RECURRENT}
        if id(node) in inside or static:
            continue
        found, anew = plan_stored(node, wish, samples=samples)
        for tensor in found:
            tensors.setdefault(tensor.name, tensor)
        if anew:
            how = "its state stays in float" if wish.activations == "int8" else "quantize.activations is dynamic"
            dynamic[graph.node_name(node)] = wish.source or how
    return dynamic


def _plan_activations(
    ties: Ties,
    grids: Mapping[str, Grid],
    fixed: Mapping[str, Fixed],
    stats: Mapping[str, TensorStats],
    observe: Observer,
    observer: str,
) -> dict[str, TensorPlan]:
    tensors: dict[str, TensorPlan] = {}
    for leader, names in ties.groups().items():
        scheme = ACTIVATIONS[grids[leader].bits]
        if leader in fixed:
            row = fixed[leader]
            qparams = QParams(scheme, np.asarray(row.scale, np.float32), np.asarray(row.zero_point, np.int32))
            why = f"fixed by the TFLite kernel: scale {row.scale:g}, zero_point {row.zero_point}"
        else:
            low, high = _range([_named(grids[n].value) for n in names], stats, observe, scheme)
            why = f"{observer} over calibration: [{low:.6g}, {high:.6g}]"
            if low == high == 0:
                why = "nothing but zeros in calibration: [0, 1]"
            qparams = _qparams(low, high, scheme)
        if len(names) > 1:
            why += f"; shared by {len(names)} tensors of one scale"
        for name in names:
            readers = grids[name].readers
            border = f"; requantized for {', '.join(readers)}" if readers else ""
            tensors[name] = TensorPlan(name, "activation", qparams, why + border)
    return tensors


def _clash(widths: Widths, ties: Ties, fixed: Mapping[str, Fixed]) -> ir.Node | None:
    """A node of several inputs in a group that holds a fixed scale and a tensor that needs another one."""
    for node in widths.nodes:
        inputs = activation_inputs(node, OPS[node.op_type])
        if not isinstance(widths.rule(node), Same) or len(inputs) < 2:
            continue
        if ties.leader(widths.name(inputs[0], node)) not in fixed:
            continue
        rules = {_source_rule(value, node, widths) for value in inputs}
        if len(rules) > 1:
            return node
    return None


def _source_rule(value: ir.Value, reader: ir.Node, widths: Widths) -> Fixed | None:
    """The fixed scale with which this tensor arrives, seen through nodes that only pass integers on."""
    node, bits = value.producer(), widths.bits(reader)
    while node is not None and node in widths and widths.bits(node) == bits and isinstance(widths.rule(node), Same):
        node = activation_inputs(node, OPS[node.op_type])[0].producer()
    if node is None or node not in widths or widths.bits(node) != bits:
        return None
    rule = widths.rule(node)
    return rule if isinstance(rule, Fixed) else None


def _range(
    names: Sequence[str], stats: Mapping[str, TensorStats], observe: Observer, scheme: Scheme
) -> tuple[float, float]:
    """The union of what the members need."""
    ranges = []
    for name in names:
        if name not in stats:
            raise PlanError(
                f"no calibration statistics for tensor {name!r}", "calibrate the same graph that is planned"
            )
        ranges.append(observe(stats[name], scheme))
    return min(r[0] for r in ranges), max(r[1] for r in ranges)


def _in_graph_order(model: ir.Model, tensors: Mapping[str, TensorPlan]) -> dict[str, TensorPlan]:
    names = [v.name for v in model.graph.inputs]
    for node in model.graph:
        names += [v.name for v in node.inputs if v is not None] + [v.name for v in node.outputs]
    return {n: tensors[n] for n in dict.fromkeys(names) if n is not None and n in tensors}


def _named(value: ir.Value) -> str:
    assert value.name is not None  # the verifier holds this
    return value.name
