"""How weights become integers on their grids. One algorithm a file, in two tables.

WEIGHT_ROUNDERS look at one weight alone. LAYER_ROUNDERS see what the layer reads, and go through the network in order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph, grid
from exporter.errors import DataError, PlanError
from exporter.rounding.adaround import adaround
from exporter.rounding.gptq import gptq
from exporter.rounding.hqq import hqq
from exporter.rounding.kinds import LayerRounder, WeightRounder, in_bytes
from exporter.rounding.layers import layers_of
from exporter.rounding.mse import mse
from exporter.rounding.nearest import nearest
from exporter.rounding.sequential import sequential
from exporter.threads import one_blas_thread
from exporter.types import Plan, QParams, Rounded, TensorPlan

__all__ = [
    "LAYER_ROUNDERS",
    "WEIGHT_ROUNDERS",
    "Batches",
    "LayerRounder",
    "WeightRounder",
    "round_alone",
    "round_weights",
    "seeing_samples",
    "with_bias_scales",
]

Batches = Callable[[], Iterable[Mapping[str, npt.NDArray[np.generic]]]]

WEIGHT_ROUNDERS: Mapping[str, WeightRounder] = {"nearest": nearest, "mse": mse, "hqq": hqq}
# brecq: what it starts from; exporter.reconstruction learns on
LAYER_ROUNDERS: Mapping[str, LayerRounder] = {"gptq": gptq, "adaround": adaround, "brecq": gptq}


@one_blas_thread
def round_weights(
    model: ir.Model,
    plan: Plan,
    batches: Batches | None = None,
    *,
    bias_correction: bool = False,
    progress: Callable[[int, int], None] | None = None,
    seed: int = 0,
) -> Rounded:
    """Every weight of the plan as integers, each by the rounder that the plan names for it.

    model     the graph that was planned
    batches   gives the calibration samples anew each time it is called; None: only rounders that need none
    bias_correction  with rounders that see no samples too, the mean of each output channel is the float network's
    progress  called with weights (of rounders that see samples: layers) done, and how many there are
    Raises PlanError for a weight that the graph does not have as a constant, and an unknown rounder; DataError for a
    rounder or a correction that needs samples and gets none.
    """
    with_data = seeing_samples(model, plan)
    in_turn = bool(with_data) or bias_correction
    rounded = round_alone(model, plan, progress if not in_turn else None)
    if not in_turn:
        return rounded
    if batches is None:
        name = f"rounder {plan.tensors[with_data[0]].rounder!r}" if with_data else "quantize.bias_correction"
        raise DataError(f"{name} needs calibration samples", "give data.calibration, or do without")
    return sequential(model, rounded, batches(), LAYER_ROUNDERS, progress)


def seeing_samples(model: ir.Model, plan: Plan) -> list[str]:
    """Weights of layers whose rounder is one of LAYER_ROUNDERS."""
    read = {layer.weight for layer in layers_of(model)}
    return [t.name for t in _weights(plan) if t.rounder in LAYER_ROUNDERS and t.name in read]


def round_alone(model: ir.Model, plan: Plan, progress: Callable[[int, int], None] | None = None) -> Rounded:
    """Every weight by itself; those whose rounder is one of LAYER_ROUNDERS to nearest, for a start."""
    tensors, integers = dict(plan.tensors), {}
    wanted = _weights(plan)
    read = {layer.weight for layer in layers_of(model)}
    for done, tensor in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        array = graph.constant(model.graph.initializers.get(tensor.name))
        if array is None:
            raise PlanError(f"the plan gives {tensor.name!r} as a weight, but it is not a constant of the graph")
        assert tensor.qparams is not None
        kept = replace(tensor, rounder="mse") if _only_looked_up(tensor, read) else tensor
        rounder = nearest if kept.rounder in LAYER_ROUNDERS else _rounder(kept)
        qparams, made = rounder(array.astype(np.float32), tensor.qparams)
        integers[tensor.name] = in_bytes(made, qparams.scheme)
        tensors[tensor.name] = replace(kept, qparams=qparams)
    return Rounded(with_bias_scales(model, replace(plan, tensors=tensors)), integers)


def _weights(plan: Plan) -> list[TensorPlan]:
    return [t for t in plan.tensors.values() if t.role == "weight" and t.qparams is not None]


def _only_looked_up(tensor: TensorPlan, read: Collection[str]) -> bool:
    """A table that no layer multiplies with: there are no moments to round it by."""
    return tensor.rounder in LAYER_ROUNDERS and tensor.name not in read


def _rounder(tensor: TensorPlan) -> WeightRounder:
    if tensor.rounder not in WEIGHT_ROUNDERS:
        known = ", ".join([*WEIGHT_ROUNDERS, *LAYER_ROUNDERS])
        raise PlanError(f"{tensor.name!r}: unknown rounder {tensor.rounder!r}", f"known: {known}")
    return WEIGHT_ROUNDERS[tensor.rounder]


def with_bias_scales(model: ir.Model, plan: Plan) -> Plan:
    """The plan with every bias at input scale x weight scale again, after weight scales have changed."""
    tensors = dict(plan.tensors)
    for node in model.graph:
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        old = tensors.get((bias.name or "") if bias is not None else "")
        if old is None or old.role != "bias" or old.qparams is None:
            continue
        source = plan.read((node.inputs[0].name or "") if node.inputs[0] is not None else "", graph.node_name(node))
        read, weight = _qparams(source), _qparams(tensors.get((node.inputs[1].name or "") if node.inputs[1] else ""))
        scale = np.broadcast_to(weight.scale, old.qparams.scale.shape).astype(np.float32)
        tensors[old.name] = replace(old, qparams=grid.bias_qparams(read.scale, scale))
    return replace(plan, tensors=tensors)


def _qparams(tensor: TensorPlan | None) -> QParams:
    assert tensor is not None
    assert tensor.qparams is not None
    return tensor.qparams
