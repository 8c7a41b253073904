"""Graph + statistics + wishes -> Plan: every scale and zero point, decided once for all artifacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph, grid
from exporter.errors import PlanError
from exporter.ops import OPS, Fixed, Op, Same
from exporter.quantize.regions import activation_inputs, find_regions, fused_activation, node_name
from exporter.quantize.sums import align_sums
from exporter.quantize.ties import Ties
from exporter.types import Grain, PerChannel, PerTensor, Plan, QParams, Scheme, TensorPlan, TensorStats

__all__ = ["Observer", "make_plan", "minmax_range", "planned_activations"]

Observer = Callable[[TensorStats, Scheme], tuple[float, float]]
_ACTIVATION = Scheme(8, symmetric=False)
_BIAS_LIMIT = float(2**30)  # keeps bias / (input scale x weight scale) well inside int32


def minmax_range(stats: TensorStats, scheme: Scheme) -> tuple[float, float]:
    """The whole range that calibration saw."""
    return stats.low, stats.high


def planned_activations(model: ir.Model, keep_float: Sequence[str] = ()) -> list[str]:
    """Names of the values whose statistics make_plan asks for: what calibration needs to watch, and no more."""
    return list(_activations(find_regions(model, keep_float).integer))


def make_plan(
    model: ir.Model,
    stats: Mapping[str, TensorStats],
    *,
    observe: Observer = minmax_range,
    observer: str = "minmax",
    granularity: str = "channel",
    rounder: str = "nearest",
    keep_float: Sequence[str] = (),
) -> Plan:
    """Static int8: activations asymmetric per tensor, weights symmetric, bias int32 at input scale x weight scale.

    model        prepared float graph (not changed)
    stats        what calibration saw, by value name; every activation of an integer node must be there
    observe      range of an activation from its statistics; ``observer`` is its name, for the ``why``
    granularity  "channel" (one weight scale for each output channel) or "tensor"
    keep_float   fnmatch patterns of node names that stay in float
    Raises PlanError for missing statistics or a pattern that matches no node.
    """
    regions = find_regions(model, keep_float)
    reasons = dict(regions.reasons)
    nodes = list(regions.integer)
    while True:
        activations = _activations(nodes)
        ties, fixed = _ties(nodes, activations)
        clash = _clash(nodes, ties, fixed)
        if clash is None:
            break
        nodes.remove(clash)
        reasons[node_name(clash)] = "joins a tensor of fixed scale with others"
    tensors = _plan_activations(ties, fixed, stats, observe, observer)
    _align(nodes, ties, fixed, tensors)
    for node in nodes:
        _plan_constants(node, tensors, granularity, rounder)
    return Plan(_in_graph_order(model, tensors), reasons)


def _plan_activations(
    ties: Ties, fixed: Mapping[str, Fixed], stats: Mapping[str, TensorStats], observe: Observer, observer: str
) -> dict[str, TensorPlan]:
    tensors: dict[str, TensorPlan] = {}
    for leader, names in ties.groups().items():
        if leader in fixed:
            row = fixed[leader]
            qparams = _qparams_fixed(row)
            why = f"fixed by the TFLite kernel: scale {row.scale:g}, zero_point {row.zero_point}"
        else:
            low, high = _range(names, stats, observe)
            qparams = grid.qparams_from_range(low, high, _ACTIVATION)
            why = f"{observer} over calibration: [{low:.6g}, {high:.6g}]"
        if len(names) > 1:
            why += f"; shared by {len(names)} tensors that only pass integers on"
        for name in names:
            tensors[name] = TensorPlan(name, "activation", qparams, why)
    return tensors


def _align(nodes: Sequence[ir.Node], ties: Ties, fixed: Mapping[str, Fixed], tensors: dict[str, TensorPlan]) -> None:
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
    # a Clip is dropped only while the grid ends at its bound
    clipped = {ties.leader(name) for node in nodes if node.op_type == "Clip" for name in [_named(node.outputs[0])]}
    for leader, scale in align_sums(triples, scales, [*fixed, *clipped]).items():
        share = 100 * (scale / scales[leader] - 1)
        for name in ties.groups()[leader]:
            old = tensors[name]
            assert old.qparams is not None
            qparams = QParams(old.qparams.scheme, np.asarray(scale, np.float32), old.qparams.zero_point)
            why = f"{old.why}; widened by {share:.2f} % so that all kernels round its sums alike"
            tensors[name] = TensorPlan(name, "activation", qparams, why, old.rounder)


def _scale_of(tensor: TensorPlan) -> float:
    assert tensor.qparams is not None
    return float(tensor.qparams.scale)


def _activations(nodes: Sequence[ir.Node]) -> dict[str, ir.Value]:
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


def _ties(nodes: Sequence[ir.Node], activations: Mapping[str, ir.Value]) -> tuple[Ties, dict[str, Fixed]]:
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


def _clash(nodes: Sequence[ir.Node], ties: Ties, fixed: Mapping[str, Fixed]) -> ir.Node | None:
    """A node of several inputs in a group that holds a fixed scale and a tensor that needs another one."""
    inside = {id(n) for n in nodes}
    for node in nodes:
        row = OPS[node.op_type]
        inputs = activation_inputs(node, row)
        if not isinstance(row.int8, Same) or len(inputs) < 2 or ties.leader(_named(inputs[0])) not in fixed:
            continue
        rules = {_source_rule(value, inside) for value in inputs}
        if len(rules) > 1:
            return node
    return None


def _source_rule(value: ir.Value, inside: set[int]) -> Fixed | None:
    """The fixed scale with which this tensor arrives, seen through nodes that only pass integers on."""
    node = value.producer()
    while node is not None and id(node) in inside and isinstance(OPS[node.op_type].int8, Same):
        node = activation_inputs(node, OPS[node.op_type])[0].producer()
    if node is None or id(node) not in inside:
        return None
    rule = OPS[node.op_type].int8
    return rule if isinstance(rule, Fixed) else None


def _qparams_fixed(rule: Fixed) -> QParams:
    return QParams(_ACTIVATION, np.asarray(rule.scale, np.float32), np.asarray(rule.zero_point, np.int32))


def _range(names: Sequence[str], stats: Mapping[str, TensorStats], observe: Observer) -> tuple[float, float]:
    """The union of what the members need."""
    ranges = []
    for name in names:
        if name not in stats:
            raise PlanError(
                f"no calibration statistics for tensor {name!r}", "calibrate the same graph that is planned"
            )
        ranges.append(observe(stats[name], _ACTIVATION))
    return min(r[0] for r in ranges), max(r[1] for r in ranges)


@dataclass(frozen=True, slots=True)
class _Weight:
    value: ir.Value
    array: npt.NDArray[np.float32]
    axis: int | None


def _plan_constants(node: ir.Node, tensors: dict[str, TensorPlan], granularity: str, rounder: str) -> None:
    """Weights, biases and constant operands of one integer node."""
    row = OPS[node.op_type]
    for index, value in enumerate(node.inputs):
        array = graph.constant(value)
        if value is None or array is None or array.dtype != np.float32 or row.role(index) in {"static", "bias"}:
            continue
        if row.role(index) == "weight":
            axis = _weight_axis(node, row, array) if granularity == "channel" else None
            weight = _Weight(value, array.astype(np.float32), axis)
            tensors[_named(value)] = _plan_weight(node, weight, tensors, rounder)
        else:
            qparams = grid.qparams_from_range(array.min(), array.max(), _ACTIVATION)
            tensors[_named(value)] = TensorPlan(_named(value), "weight", qparams, "constant operand: its own range")
    bias = _bias(node, row)
    if bias is not None:
        scale = _input_scale(node, tensors)
        weight_plan = tensors[_named(node.inputs[1])].qparams  # type: ignore[arg-type]
        assert weight_plan is not None
        qparams = grid.bias_qparams(scale, _per_channel(weight_plan.scale, graph.constant(bias)))
        tensors[_named(bias)] = TensorPlan(_named(bias), "bias", qparams, "input scale x weight scale")


def _per_channel(scale: npt.NDArray[np.float32], bias: npt.NDArray[np.generic] | None) -> npt.NDArray[np.float32]:
    assert bias is not None
    return np.broadcast_to(scale, bias.shape).astype(np.float32) if scale.ndim else scale


def _weight_axis(node: ir.Node, row: Op, array: npt.NDArray[np.generic]) -> int | None:
    if row.weight_axis is None or array.ndim < 2 or (node.op_type == "MatMul" and array.ndim > 2):
        return None
    return row.weight_axis(node) % array.ndim


def _plan_weight(node: ir.Node, weight: _Weight, tensors: Mapping[str, TensorPlan], rounder: str) -> TensorPlan:
    grain: Grain = PerTensor() if weight.axis is None else PerChannel(weight.axis)
    others = None if weight.axis is None else tuple(i for i in range(weight.array.ndim) if i != weight.axis)
    scheme = Scheme(8, symmetric=True, grain=grain)
    qparams = grid.qparams_from_range(weight.array.min(axis=others), weight.array.max(axis=others), scheme)
    why = f"symmetric, range of each {'output channel' if weight.axis is not None else 'tensor'}"
    bias = _bias(node, OPS[node.op_type])
    if bias is not None:
        top = np.abs(np.asarray(graph.constant(bias), np.float64))
        floor = (top if weight.axis is not None else top.max()) / (_BIAS_LIMIT * _input_scale(node, tensors))
        if (floor > qparams.scale).any():
            scale = np.maximum(qparams.scale, floor).astype(np.float32)
            qparams = QParams(scheme, scale, qparams.zero_point)
            why += "; widened where the bias would not fit in int32"
    return TensorPlan(_named(weight.value), "weight", qparams, why, rounder)


def _bias(node: ir.Node, row: Op) -> ir.Value | None:
    for index, value in enumerate(node.inputs):
        if value is not None and row.role(index) == "bias":
            return value
    return None


def _input_scale(node: ir.Node, tensors: Mapping[str, TensorPlan]) -> float:
    return _scale_of(tensors[_named(node.inputs[0])])  # type: ignore[arg-type]


def _in_graph_order(model: ir.Model, tensors: Mapping[str, TensorPlan]) -> dict[str, TensorPlan]:
    names = [v.name for v in model.graph.inputs]
    for node in model.graph:
        names += [v.name for v in node.inputs if v is not None] + [v.name for v in node.outputs]
    return {n: tensors[n] for n in dict.fromkeys(names) if n is not None and n in tensors}


def _named(value: ir.Value) -> str:
    assert value.name is not None  # the verifier holds this
    return value.name
