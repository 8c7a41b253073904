"""Inspect a plan: the scheme of every tensor and the reason for it."""

from __future__ import annotations

from pathlib import Path

from exporter.errors import PlanError
from exporter.inspection.types import FloatNode, Inspection, TensorScheme
from exporter.types import Grain, PerChannel, PerGroup, Plan, TensorPlan

__all__ = ["inspect_plan", "read_plan", "scheme_of"]


def read_plan(path: Path) -> Plan:
    """Raises PlanError."""
    try:
        return Plan.from_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot read the plan: {error}") from error


def inspect_plan(path: Path) -> Inspection:
    """Raises PlanError when the file is no plan."""
    plan = read_plan(path)
    return Inspection(
        path=str(path),
        kind="plan",
        size=path.stat().st_size,
        schemes=tuple(map(scheme_of, [*plan.tensors.values(), *(border.tensor for border in plan.borders)])),
        float_nodes=tuple(FloatNode(name, "", why) for name, why in plan.float_nodes.items()),
    )


def scheme_of(tensor: TensorPlan) -> TensorScheme:
    """One row; a tensor that stays float has 0 bits."""
    q = tensor.qparams
    if q is None:
        return TensorScheme(tensor.name, tensor.role, 0, "", (0.0, 0.0), (0, 0), tensor.why)
    scale = (float(q.scale.min()), float(q.scale.max()))
    zero_point = (int(q.zero_point.min()), int(q.zero_point.max()))
    return TensorScheme(tensor.name, tensor.role, q.scheme.bits, _per(q.scheme.grain), scale, zero_point, tensor.why)


def _per(grain: Grain) -> str:
    match grain:
        case PerChannel(axis):
            return f"channel {axis}"
        case PerGroup(axis, size):
            return f"group {axis} of {size}"
    return "tensor"
