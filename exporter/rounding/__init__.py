"""How weights become integers on their grids. One algorithm a file; ROUNDERS is the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph, grid
from exporter.errors import PlanError
from exporter.rounding.mse import mse
from exporter.rounding.nearest import nearest
from exporter.types import Plan, QParams, Rounded, TensorPlan

__all__ = ["ROUNDERS", "Batches", "Rounder", "round_weights"]

Rounder = Callable[[npt.NDArray[np.float32], QParams], tuple[QParams, npt.NDArray[np.int32]]]
Batches = Callable[[], Iterable[Mapping[str, npt.NDArray[np.generic]]]]

ROUNDERS: Mapping[str, Rounder] = {"nearest": nearest, "mse": mse}


def round_weights(
    model: ir.Model,
    plan: Plan,
    batches: Batches | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    seed: int = 0,
) -> Rounded:
    """Every weight of the plan as integers, each by the rounder that the plan names for it.

    model     the graph that was planned
    batches   gives the calibration samples anew each time it is called; None: only rounders that need none
    progress  called with weights done, and weights in all
    Raises PlanError for a weight that the graph does not have as a constant, or an unknown rounder.
    """
    tensors, integers = dict(plan.tensors), {}
    wanted = [t for t in plan.tensors.values() if t.role == "weight" and t.qparams is not None]
    for done, tensor in enumerate(wanted):
        if progress is not None:
            progress(done, len(wanted))
        if tensor.rounder not in ROUNDERS:
            raise PlanError(f"{tensor.name!r}: unknown rounder {tensor.rounder!r}", f"known: {', '.join(ROUNDERS)}")
        array = graph.constant(model.graph.initializers.get(tensor.name))
        if array is None:
            raise PlanError(f"the plan gives {tensor.name!r} as a weight, but it is not a constant of the graph")
        assert tensor.qparams is not None
        qparams, integers[tensor.name] = ROUNDERS[tensor.rounder](array.astype(np.float32), tensor.qparams)
        tensors[tensor.name] = replace(tensor, qparams=qparams)
    return Rounded(with_bias_scales(model, replace(plan, tensors=tensors)), integers)


def with_bias_scales(model: ir.Model, plan: Plan) -> Plan:
    """The plan with every bias at input scale x weight scale again, after weight scales have changed."""
    tensors = dict(plan.tensors)
    for node in model.graph:
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        old = tensors.get((bias.name or "") if bias is not None else "")
        if old is None or old.role != "bias" or old.qparams is None:
            continue
        source, weight = (_qparams(tensors, value) for value in node.inputs[:2])
        scale = np.broadcast_to(weight.scale, old.qparams.scale.shape).astype(np.float32)
        tensors[old.name] = replace(old, qparams=grid.bias_qparams(source.scale, scale))
    return replace(plan, tensors=tensors)


def _qparams(tensors: Mapping[str, TensorPlan], value: ir.Value | None) -> QParams:
    assert value is not None
    found = tensors[value.name or ""].qparams
    assert found is not None
    return found
