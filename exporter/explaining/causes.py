"""Causes of loss that can be told by looking: each with the remedy that kbit tune would try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from exporter import graph, grid
from exporter.recipe import SEEING_SAMPLES
from exporter.reference import LayerError
from exporter.types import PerTensor, Plan, Rounded, TensorStats

__all__ = ["Cause", "Kind", "causes"]

Kind = Literal[
    "outlier channel", "swish range", "dead channels", "softmax mask", "clipped logits", "unlike addends", "few bits"
]
_OUTLIER = 8.0  # a channel's range over the median of the channels
_FEW_STEPS = 10.0  # of the negative part of a SiLU or h-swish
_MASKED = -1000.0  # no score of attention is so low, but its mask is
_CLIPPED = 0.002  # share of values of an output at an end of its grid
_UNLIKE = 16.0  # scales of the two sides of an Add
_COARSE = 25.0  # dB that a weight stands above its own rounding: what 5 bits leave; activations of 8 bits keep 30


@dataclass(frozen=True, slots=True)
class Cause:
    """where: a value or weight of the graph."""

    kind: Kind
    where: str
    found: str
    remedy: str


def causes(
    model: ir.Model, rounded: Rounded, stats: Mapping[str, TensorStats], layers: Sequence[LayerError]
) -> list[Cause]:
    """Kind by kind, in graph order. ``layers``: errors along the graph."""
    plan = rounded.plan
    return [
        *_outliers(model, plan, stats),
        *_swish(model, plan, stats),
        *_dead(model, plan),
        *_masks(model, plan, stats),
        *_clipped(model, layers),
        *_unlike(model, plan),
        *_coarse(model, rounded),
    ]


def _activations(
    model: ir.Model, plan: Plan, stats: Mapping[str, TensorStats]
) -> Iterator[tuple[ir.Value, TensorStats]]:
    for value in [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]:
        name = value.name or ""
        tensor = plan.tensors.get(name)
        if tensor is not None and tensor.role == "activation" and name in stats:
            yield value, stats[name]


def _outliers(model: ir.Model, plan: Plan, stats: Mapping[str, TensorStats]) -> Iterator[Cause]:
    for value, seen in _activations(model, plan, stats):
        readers = {node.op_type for node in graph.consumers(value)}
        if seen.channel_low is None or seen.channel_high is None or not readers & {"Conv", "MatMul", "Gemm"}:
            continue
        widths = np.maximum(np.abs(seen.channel_low), np.abs(seen.channel_high))
        usual = float(np.median(widths))
        if widths.size < 4 or usual <= 0 or float(widths.max()) < _OUTLIER * usual:
            continue
        linear = not readers & {"Conv"}
        many = f"{int((widths >= _OUTLIER * usual).sum())} such of {widths.size}"
        text = f"channel {int(widths.argmax())} reaches {widths.max():.3g}, the median channel {usual:.3g} ({many})"
        remedy = 'passes = ["smooth"]' if linear else 'passes = ["equalize"], or the layer in float'
        yield Cause("outlier channel", str(value.name), text, remedy)


def _swish(model: ir.Model, plan: Plan, stats: Mapping[str, TensorStats]) -> Iterator[Cause]:
    for value, seen in _activations(model, plan, stats):
        node = value.producer()
        q = plan.tensors[value.name or ""].qparams
        if node is None or q is None or not _is_swish(node) or seen.low >= 0:
            continue
        steps = -seen.low / float(q.scale)
        if steps < _FEW_STEPS:
            text = f"{node.op_type} gives {seen.low:.3g} to {seen.high:.3g}: all that is negative has {steps:.1f} steps"
            yield Cause("swish range", str(value.name), text, 'observer = "mse" or "percentile", or the layer in float')


def _is_swish(node: ir.Node) -> bool:
    """x * sigmoid(x), x * hard_sigmoid(x), or the operators of that name."""
    if node.op_type in {"HardSwish", "Swish"}:
        return True
    makers = [value.producer() if value is not None else None for value in node.inputs]
    if node.op_type != "Mul" or len(makers) != 2:
        return False
    gates = {"Sigmoid", "HardSigmoid"}
    pairs = zip(makers, reversed(node.inputs), strict=True)
    return any(maker is not None and maker.op_type in gates and maker.inputs[0] is other for maker, other in pairs)


def _dead(model: ir.Model, plan: Plan) -> Iterator[Cause]:
    for name, tensor in plan.tensors.items():
        array, q = graph.constant(model.graph.initializers.get(name)), tensor.qparams
        if tensor.role != "weight" or array is None or q is None or array.ndim != 4:
            continue
        if not isinstance(q.scheme.grain, PerTensor):
            continue
        tops = np.abs(array.reshape(len(array), -1)).max(axis=1)
        dead = int(((tops > 0) & (tops < float(q.scale) / 2)).sum())
        weak = int((tops < 2 * float(q.scale)).sum())
        if dead or weak > len(tops) // 10:
            nothing = f"{dead} of {len(tops)} channels round to nothing"
            text = f"one scale for the whole tensor: {nothing}, {weak} have two steps or fewer"
            yield Cause("dead channels", name, text, 'granularity = "channel", or passes = ["equalize"]')


def _masks(model: ir.Model, plan: Plan, stats: Mapping[str, TensorStats]) -> Iterator[Cause]:
    for node in model.graph:
        source = node.inputs[0] if node.op_type == "Softmax" else None
        name = "" if source is None else source.name or ""
        if source is None or name not in plan.tensors or name not in stats:
            continue
        low, high = stats[name].low, stats[name].high
        if low < _MASKED:
            text = f"a Softmax reads {low:.3g} to {high:.3g}: the mask takes all steps"
            maker = source.producer()
            where = "the Softmax" if maker is None else f"{maker.op_type} {graph.node_name(maker)!r}"
            yield Cause("softmax mask", name, text, f"mask with -30 instead, or keep {where} in float")


def _clipped(model: ir.Model, layers: Sequence[LayerError]) -> Iterator[Cause]:
    outputs = {value.name for value in model.graph.outputs}
    for layer in layers:
        if layer.value in outputs and layer.saturated > _CLIPPED:
            text = f"{100 * layer.saturated:.2f} % of an output's values lie at an end of its grid"
            yield Cause(
                "clipped logits", layer.value, text, 'observer = "minmax", more samples, or this layer in float'
            )


def _unlike(model: ir.Model, plan: Plan) -> Iterator[Cause]:
    for node in model.graph:
        if node.op_type not in {"Add", "Sub"}:
            continue
        tensors = [plan.tensors.get(value.name or "") if value is not None else None for value in node.inputs]
        grids = [t.qparams for t in tensors if t is not None and t.qparams and t.role == "activation"]
        scales = [float(q.scale) for q in grids if q.scheme.bits <= 8]
        if len(scales) == 2 and max(scales) > _UNLIKE * min(scales):
            text = f"its addends have steps of {scales[0]:.3g} and {scales[1]:.3g}: the finer one is lost"
            yield Cause("unlike addends", str(node.outputs[0].name), text, 'passes = ["equalize"], or the Add in float')


def _coarse(model: ir.Model, rounded: Rounded) -> Iterator[Cause]:
    """One cause for all weights that lie close to their own rounding error, at the worst of them."""
    left: dict[str, float] = {}
    for name, integers in rounded.integers.items():
        array, tensor = graph.constant(model.graph.initializers.get(name)), rounded.plan.tensors[name]
        if tensor.role != "weight" or tensor.qparams is None or array is None or array.shape != integers.shape:
            continue
        real = array.astype(np.float64)
        noise = float(np.square(real - grid.dequantize(integers, tensor.qparams)).sum())
        if noise > 0:
            left[name] = 10 * float(np.log10(max(float(np.square(real).sum()), 1e-30) / noise))
    coarse = {name: db for name, db in left.items() if db < _COARSE}
    if not coarse:
        return
    worst = min(coarse, key=lambda name: coarse[name])
    tensor = rounded.plan.tensors[worst]
    bits = 0 if tensor.qparams is None else tensor.qparams.scheme.bits
    many = f"{len(coarse)} of {len(left)} weights stand less than {_COARSE:g} dB above their rounding"
    text = f"{many}, this one of {bits} bit{'' if bits == 1 else 's'} {coarse[worst]:.1f} dB"
    more = "more bits where the shares are largest (kbit search), or fine-tuning"
    blind = tensor.rounder not in SEEING_SAMPLES
    yield Cause("few bits", worst, text, f'rounder = "gptq" or "brecq", {more}' if blind else more)
