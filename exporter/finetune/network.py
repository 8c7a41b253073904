"""The quantized graph as torch, so that what is trained is what ships.

The graph is the one that ``apply`` makes: every QuantizeLinear and DequantizeLinear of the artifact is there, in its
place. Weights and scales in it become parameters; ``result`` hands them back as the integers and scales that the last
forward pass used, so nothing is derived again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor

from exporter import graph
from exporter.errors import UnsupportedError
from exporter.finetune.attributes import Attributes
from exporter.finetune.grids import LearnedScale, LearnedWeight, Steps, dynamic, requantize, through
from exporter.finetune.operators import FORWARD, HOMOGENEOUS
from exporter.ops import OPS
from exporter.quantize import aligned, apply, shared_scales
from exporter.rounding import with_bias_scales
from exporter.types import Plan, QParams, Rounded, TensorPlan

__all__ = ["Network", "Trained"]

Array = npt.NDArray[Any]
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_NORMS = frozenset({"LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization"})


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """model: the float graph with its weights as trained, before rounding; rounded: their integers, and the plan."""

    model: ir.Model
    rounded: Rounded


class _FloatWeight:
    """A weight or bias without a grid, in units of its size."""

    def __init__(self, array: Array, mask: npt.NDArray[np.bool_] | None = None) -> None:
        size = float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
        self.unit = torch.tensor(size if size > 1e-12 else 1.0)
        self.latent = (torch.from_numpy(np.asarray(array, np.float32).copy()) / self.unit).requires_grad_()
        self._mask = None if mask is None else torch.from_numpy(mask.astype(np.float32))

    @property
    def real(self) -> Tensor:
        real = self.latent * self.unit
        return real if self._mask is None else real * self._mask


class Network:
    """``forward`` computes the graph's outputs; ``weights`` and ``scales`` are what an optimizer may change."""

    def __init__(self, model: ir.Model, rounded: Rounded, masks: Mapping[str, npt.NDArray[np.bool_]]) -> None:
        """masks: by weight name, False where it stays zero. Raises UnsupportedError for an operator without a row."""
        self._model, self._rounded, self._plan = model, rounded, rounded.plan
        self._graph = apply(model, rounded).graph
        self._nodes = list(self._graph)
        plan = rounded.plan
        known = {"QuantizeLinear", "DequantizeLinear", *FORWARD}
        for node in self._nodes:
            if node.op_type not in known or node.domain not in {"", "ai.onnx"}:
                raise UnsupportedError(graph.node_name(node), node.op_type, "", "no gradient", "leave [finetune] out")
        self.scales: dict[str, LearnedScale] = {}
        grids = plan.grids
        for names, movable in shared_scales(model, plan):
            q = grids[names[0]].qparams
            assert q is not None
            one = LearnedScale(q, learned=movable)
            self.scales |= dict.fromkeys(names, one)
        for name, tensor in plan.tensors.items():  # of a piece of a network: what no integer node of it reads or makes
            if tensor.role == "activation" and tensor.qparams is not None and name not in self.scales:
                self.scales[name] = LearnedScale(tensor.qparams, learned=False)
        self.weights: dict[str, LearnedWeight | _FloatWeight] = {}
        self.biases: dict[str, _FloatWeight] = {}
        self._collect(masks)
        self._constants = self._fixed()
        self._now: dict[int, Tensor] = {}  # scales of one forward pass
        self.batch = graph.fixed_batch(model)

    def _collect(self, masks: Mapping[str, npt.NDArray[np.bool_]]) -> None:
        """Weights and biases of the float graph that training may change."""
        tensors = self._rounded.plan.tensors
        for node in self._model.graph:
            for index, value in enumerate(node.inputs):
                array = graph.constant(value)
                if value is None or array is None or array.dtype != np.float32 or not _is_trained(node, index):
                    continue
                name = str(value.name)
                if name in self.weights or name in self.biases:
                    continue
                planned = tensors.get(name)
                if OPS[node.op_type].role(index) == "bias":
                    self.biases[name] = _FloatWeight(self._rounded.biases.get(name, array))
                elif planned is None or (planned.qparams is None and planned.kept == "float32"):
                    self.weights[name] = _FloatWeight(array, masks.get(name))
                elif planned.qparams is not None:
                    integers = self._rounded.integers[name].astype(np.int32)
                    self.weights[name] = LearnedWeight(
                        np.asarray(array, np.float32), planned.qparams, integers, masks.get(name)
                    )

    def _fixed(self) -> dict[str, Tensor]:
        """Constants of the quantized graph that no parameter stands for."""
        found = {}
        for name, value in self._graph.initializers.items():
            array = graph.constant(value)
            if array is not None and name not in self.weights and name not in self.biases:
                found[name] = torch.from_numpy(_numpy(array))
        return found

    def parameters(self) -> list[Tensor]:
        """All that is learned, in an order that is the same in each run."""
        scales = {id(one): one.log for one in self.scales.values() if one.learned}
        logs = [one.log for one in self.weights.values() if isinstance(one, LearnedWeight)]
        latents = [one.latent for store in (self.weights, self.biases) for one in store.values()]
        return [*latents, *logs, *scales.values()]

    def forward(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name. feeds: inputs by name."""
        values: dict[str, Tensor | Steps] = {**self._constants, **feeds}
        self._now = {id(one): one.scale for one in self.scales.values()}
        for store in (self.weights, self.biases):
            for name, one in store.items():
                if isinstance(one, LearnedWeight):
                    values[f"{name}_quantized"] = Steps(*one.steps())
                else:
                    values[name] = values[f"{name}_quantized"] = one.real
        last = {str(v.name): i for i, node in enumerate(self._nodes) for v in node.inputs if v is not None}
        kept = {str(v.name) for v in self._graph.outputs}
        for i, node in enumerate(self._nodes):
            inputs = [None if v is None else values[str(v.name)] for v in node.inputs]
            made = self._run(node, inputs)
            values |= {str(v.name): r for v, r in zip(node.outputs, made, strict=False) if v.name}
            for value in node.inputs:  # what is not needed again is let go
                if value is not None and last[str(value.name)] == i and value.name not in kept:
                    values.pop(str(value.name), None)
        return {str(v.name): _real(values[str(v.name)]) for v in self._graph.outputs}

    def _run(self, node: ir.Node, inputs: list[Tensor | Steps | None]) -> tuple[Tensor | Steps, ...]:
        if node.op_type == "QuantizeLinear":
            return (self._quantize(node, inputs[0]),)
        if node.op_type == "DequantizeLinear":
            return (self._dequantize(node, inputs),)
        if graph.node_name(node) in self._rounded.plan.dynamic_nodes:
            inputs = [dynamic(_real(inputs[0])), *inputs[1:]]
        attributes, forward = Attributes(node), FORWARD[node.op_type]
        if node.op_type in _LAYERS and all(isinstance(v, Steps) for v in inputs[:2]):
            made = _integer_layer(node, attributes, inputs)
            if made is not None:
                return (made,)
        source = inputs[0] if inputs else None
        if isinstance(source, Steps) and source.scale.numel() == 1 and node.op_type in HOMOGENEOUS:
            moved = forward(attributes, source.steps, *[_real(v) for v in inputs[1:]])
            return tuple(Steps(m, source.scale) for m in (moved if isinstance(moved, tuple) else (moved,)))
        result = forward(attributes, *[_real(v) for v in inputs])
        return result if isinstance(result, tuple) else (result,)

    def _quantize(self, node: ir.Node, value: Tensor | Steps | None) -> Steps:
        assert value is not None
        one = self.scales[_stem(node.inputs[1], "_scale")]
        scale = self._now[id(one)]
        if isinstance(value, Steps) and value.scale is scale:
            return value  # from a node that only passes integers on
        if not isinstance(value, Steps):
            return Steps(requantize(value / scale, None, one.low, one.high), scale)
        return Steps(requantize(value.steps, value.scale / scale, one.low, one.high), scale)

    def _dequantize(self, node: ir.Node, inputs: list[Tensor | Steps | None]) -> Tensor | Steps:
        stored, scale, zero = inputs
        if isinstance(stored, Steps) or _stem(node.inputs[0], "_quantized") in self.biases:
            assert stored is not None
            return stored
        attributes = {k: v.value for k, v in node.attributes.items()}
        return _constant(_real(stored), _real(scale), _real(zero), attributes)  # a constant operand: its integers stay

    def hold_scales(self) -> None:
        """Activations keep the scales that they have: no gradient is computed for them."""
        for one in self.scales.values():
            one.log.requires_grad_(False)

    def fix_scales(self) -> None:
        """From here on activations keep the scales that they would ship with now."""
        self._plan = self._planned()
        grids = self._plan.grids
        for name, one in self.scales.items():
            q = grids[name].qparams
            assert q is not None
            one.fix(float(q.scale))

    def _planned(self) -> Plan:
        """The plan with the activation scales as they are now."""
        before = self._plan.grids
        now = {
            name: _scaled(before[name], np.asarray(one.scale.detach().numpy(), np.float32))
            for name, one in self.scales.items()
        }
        if all(tensor is before[name] for name, tensor in now.items()):
            return self._plan  # aligning again would widen again
        return aligned(self._model, self._plan.with_grids({**before, **now}))

    def result(self) -> Trained:
        """Everything as it is now; learned scales around sums are aligned, which widens them by under 1 %."""
        plan = self._planned()
        tensors, integers = dict(plan.tensors), {}
        model = self._model.clone()
        for name, weight in self.weights.items():
            _write(model, name, weight.real)
            if isinstance(weight, LearnedWeight):
                q, integers[name] = weight.found()
                why = f"{plan.tensors[name].why}; then learned"
                tensors[name] = replace(tensors[name], qparams=q, why=why)
        biases = {name: one.real.detach().numpy().copy() for name, one in self.biases.items()}
        for name, bias in self.biases.items():
            _write(model, name, bias.real)
        plan = with_bias_scales(model, replace(plan, tensors=tensors))
        before = self._rounded
        return Trained(model, Rounded(plan, {**before.integers, **integers}, {**before.biases, **biases}))


def _scaled(tensor: TensorPlan, scale: npt.NDArray[np.float32]) -> TensorPlan:
    q = tensor.qparams
    assert q is not None
    if scale == q.scale:
        return tensor
    return replace(tensor, qparams=QParams(q.scheme, scale, q.zero_point), why=f"{tensor.why}; then learned")


def _integer_layer(node: ir.Node, attributes: Attributes, inputs: list[Tensor | Steps | None]) -> Steps | None:
    """A product of integers, its bias included, or None where its scale is not one for each output channel."""
    x, weight, bias = [*inputs, None][:3]
    assert isinstance(x, Steps)
    assert isinstance(weight, Steps)
    scale = _output_scale(node, x, weight)
    if scale is None:
        return None
    held = None
    if bias is not None:
        exact = (_real(bias).detach().double() / scale.detach().reshape(-1).double()).round()
        held = through(_real(bias) / scale.reshape(-1), exact.to(torch.float32))
    forward = FORWARD[node.op_type]
    made = forward(attributes, x.steps, weight.steps, *([] if held is None else [held]))
    return Steps(made, scale if scale.ndim == 0 else _beside(scale, made.ndim, node))


def _output_scale(node: ir.Node, x: Steps, weight: Steps) -> Tensor | None:
    """Scale of the accumulators: [] or [channels]."""
    if x.scale.numel() != 1:
        return None
    if weight.scale.ndim == 0:
        return x.scale * weight.scale
    axis = OPS[node.op_type].weight_axis
    if axis is None or node.attributes.get_int("group", 1) > 1 < axis(node) + 1 != 1:
        return None
    channels = weight.steps.shape[axis(node)]
    if weight.scale.numel() != channels:
        return None
    return x.scale * weight.scale.reshape(-1)


def _beside(scale: Tensor, rank: int, node: ir.Node) -> Tensor:
    """So that it broadcasts against the output: channels are axis 1 of a convolution, else the last."""
    if node.op_type in {"Conv", "ConvTranspose"}:
        return scale.reshape(1, -1, *[1] * (rank - 2))
    return scale


def _constant(stored: Tensor, scale: Tensor, zero: Tensor | None, attributes: Mapping[str, Any]) -> Tensor:
    """DequantizeLinear of a constant, by tensor, channel or block."""
    axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
    centred = stored.to(torch.float32)
    if scale.ndim == 0:
        return (centred if zero is None else centred - zero.to(torch.float32)) * scale

    def wide(numbers: Tensor) -> Tensor:
        if block:
            long = numbers.repeat_interleave(block, dim=axis)
            return long.narrow(axis, 0, stored.shape[axis])
        return numbers.reshape([-1 if i == axis % stored.ndim else 1 for i in range(stored.ndim)])

    return (centred if zero is None else centred - wide(zero.to(torch.float32))) * wide(scale)


def _is_trained(node: ir.Node, index: int) -> bool:
    if node.op_type in _LAYERS | _NORMS:
        return index in {1, 2}
    return (node.op_type == "PRelu" and index == 1) or (node.op_type == "Gather" and index == 0)


def _real(value: Tensor | Steps | None) -> Any:
    return value.real if isinstance(value, Steps) else value


def _stem(value: ir.Value | None, suffix: str) -> str:
    assert value is not None
    return str(value.name).removesuffix(suffix)


def _numpy(array: Array) -> Array:
    """Of a type that torch has; its own copy."""
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        return np.asarray(array, np.float32)
    return np.array(array)


def _write(model: ir.Model, name: str, real: Tensor) -> None:
    array = real.detach().numpy().copy()
    model.graph.initializers[name].const_value = ir.tensor(array, name=name)
