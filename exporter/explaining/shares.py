"""Each layer's own share of the loss: the quantized network with it in float, the float network with it quantized."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.quantization import Quantized
from exporter.quantize import apply
from exporter.reference import divergence, session
from exporter.rounding.layers import Layer, layers_of
from exporter.types import Plan, Rounded
from targets.agent import metrics

__all__ = ["Share", "shares"]

Batches = Sequence[Mapping[str, npt.NDArray[Any]]]
_MOST = 48  # layers that are looked at: those with the least signal to noise


@dataclass(frozen=True, slots=True)
class Share:
    """One layer: its weight, its bias and its output.

    alone            divergence from the float network when nothing else is quantized
    without          that of the quantized network when this layer alone is float
    points_alone     of the metric, that it costs when nothing else is quantized; None without labels
    points_restored  of the metric, that come back when this layer alone is float
    """

    node: str
    op: str
    weight: str
    alone: float
    without: float
    points_alone: float | None
    points_restored: float | None


def shares(
    found: Quantized,
    batches: Batches,
    labels: npt.NDArray[Any] | None,
    metric: str,
    *,
    worst_first: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Share], float]:
    """In graph order; and the divergence of the whole quantized network.

    batches      a few hundred samples, ready for the model; labels: theirs
    worst_first  names of nodes: of many layers the first of these are looked at
    """
    plan = found.rounded.plan
    layers = [each for each in layers_of(found.model) if _planned(plan, each)]
    if len(layers) > _MOST:
        order = {name: place for place, name in enumerate(worst_first)}
        worst = sorted(layers, key=lambda layer: order.get(str(layer.node.name), len(order)))[:_MOST]
        layers = [layer for layer in layers if layer in worst]
    classes = metric in {"top1", "top5"}

    def run(model: ir.Model) -> npt.NDArray[np.float64]:
        opened = session(model, optimize=False)  # ONNX Runtime's QDQ propagation breaks half-quantized graphs
        name = opened.get_outputs()[0].name
        return np.concatenate([opened.run([name], dict(batch))[0] for batch in batches]).astype(np.float64)

    def points(outputs: npt.NDArray[np.float64]) -> float | None:
        if labels is None or metric not in metrics.METRICS:
            return None
        value = float(metrics.score(metric, outputs, labels[: len(outputs)]))
        return value if metrics.higher_is_better(metric) else -value

    exact = run(found.model)
    whole = run(apply(found.model, found.rounded))
    top, now = points(exact), points(whole)
    everything = set(plan.tensors)
    rows = []
    for done, layer in enumerate(layers):
        progress(done, len(layers))
        own = _own(plan, layer)
        one, others = (run(apply(found.model, _only(found.rounded, kept))) for kept in (own, everything - own))
        restored, alone = points(others), points(one)
        rows.append(
            Share(
                layer.node.name or "",
                layer.node.op_type,
                layer.weight,
                divergence(exact, one, classes=classes),
                divergence(exact, others, classes=classes),
                None if top is None or alone is None else top - alone,
                None if now is None or restored is None else restored - now,
            )
        )
    return rows, divergence(exact, whole, classes=classes)


def _planned(plan: Plan, layer: Layer) -> bool:
    tensor = plan.tensors.get(layer.weight)
    return tensor is not None and tensor.qparams is not None


def _own(plan: Plan, layer: Layer) -> set[str]:
    """What of the plan belongs to the layer: its output is that of a Relu or Clip behind it where they are one."""
    output = layer.node.outputs[0]
    names = {layer.weight, layer.bias or "", output.name or ""}
    if output.name not in plan.tensors:
        names |= {v.name or "" for use in output.uses() for v in use.node.outputs}
    return names & set(plan.tensors)


def _only(rounded: Rounded, kept: set[str]) -> Rounded:
    tensors = {name: tensor for name, tensor in rounded.plan.tensors.items() if name in kept}
    integers = {name: array for name, array in rounded.integers.items() if name in kept}
    biases = {name: array for name, array in rounded.biases.items() if name in kept}
    return replace(rounded, plan=Plan(tensors), integers=integers, biases=biases)
