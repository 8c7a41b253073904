"""ONNX operators in torch, for training: one row each in FORWARD. An operator without a row is refused by name.

A row is called with the node's attributes and its inputs and gives one tensor, or a tuple of them. Shapes, axes and
indices are int64 tensors on the CPU. HOMOGENEOUS names those for which f(k x) = k f(x), k > 0, in their first input, so
that they may run on a tensor's integers (about the zero point) instead of its real numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from exporter.finetune import shaping, windows
from exporter.finetune.attributes import Attributes

__all__ = ["FORWARD", "HOMOGENEOUS"]

Forward = Callable[..., Any]  # (Attributes, *inputs) -> Tensor | tuple[Tensor, ...]


def _plain(function: Callable[..., Tensor]) -> Forward:
    return lambda a, *x: function(*x)


def _gemm(a: Attributes, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    x = x.T if a.whole("transA") else x
    made = a.real("alpha", 1.0) * x @ (w.T if a.whole("transB") else w)
    return made if bias is None else made + a.real("beta", 1.0) * bias


def _clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = a.whole("axis", -1) % x.ndim
    made = F.layer_norm(x, x.shape[axis:], None, None, a.real("epsilon", 1e-5)) * scale
    return made if bias is None else made + bias


def _rms_norm(a: Attributes, x: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(a.whole("axis", -1) % x.ndim, x.ndim))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + a.real("epsilon", 1e-5)) * scale


def _batch_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """With the statistics of the graph: fine-tuning does not move them."""
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, a.real("epsilon", 1e-5))


def _instance_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=a.real("epsilon", 1e-5))


def _group_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.group_norm(x, a.whole("num_groups"), scale, bias, a.real("epsilon", 1e-5))


def _reduced(function: Callable[..., Tensor]) -> Forward:
    def reduce(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        if axes is None and a.whole("noop_with_empty_axes"):
            return x
        over = list(range(x.ndim)) if axes is None else [int(i) for i in axes.tolist()]
        return function(x, over, bool(a.whole("keepdims", 1)))

    return reduce


def _softmax(a: Attributes, x: Tensor) -> Tensor:
    return F.softmax(x, a.whole("axis", -1))


def _gelu(a: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=a.text("approximate", "none"))


def _prelu(a: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, x * slope)


def _hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    return (x * a.real("alpha", 0.2) + a.real("beta", 0.5)).clamp(0, 1)


def _divided(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _elu(a: Attributes, x: Tensor) -> Tensor:
    return F.elu(x, a.real("alpha", 1.0))


def _extreme(function: Callable[..., Tensor]) -> Forward:
    def fold(a: Attributes, *x: Tensor) -> Tensor:
        made = x[0]
        for other in x[1:]:
            made = function(made, other)
        return made

    return fold


def _mean(a: Attributes, *x: Tensor) -> Tensor:
    return sum(x[1:], x[0]) / len(x)


def _global_average(a: Attributes, x: Tensor) -> Tensor:
    return x.mean(list(range(2, x.ndim)), keepdim=True)


def _global_max(a: Attributes, x: Tensor) -> Tensor:
    return x.amax(list(range(2, x.ndim)), keepdim=True)


FORWARD: Mapping[str, Forward] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "AveragePool": windows.average_pool,
    "BatchNormalization": _batch_norm,
    "Celu": lambda a, x: F.celu(x, a.real("alpha", 1.0)),
    "Clip": _clip,
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transpose,
    "Cos": _plain(torch.cos),
    "Div": _divided,
    "Elu": _elu,
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "GroupNormalization": _group_norm,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(F.hardswish),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.real("alpha", 0.01)),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "LogSoftmax": lambda a, x: F.log_softmax(x, a.whole("axis", -1)),
    "MatMul": _plain(torch.matmul),
    "Max": _extreme(torch.maximum),
    "MaxPool": windows.max_pool,
    "Mean": _mean,
    "Min": _extreme(torch.minimum),
    "Mish": _plain(F.mish),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "PRelu": _prelu,
    "Pow": _plain(torch.pow),
    "RMSNormalization": _rms_norm,
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _plain(F.relu),
    "Selu": _plain(F.selu),
    "Sigmoid": _plain(torch.sigmoid),
    "Sin": _plain(torch.sin),
    "Softmax": _softmax,
    "Softplus": _plain(F.softplus),
    "Softsign": _plain(F.softsign),
    "Sqrt": _plain(torch.sqrt),
    "Sub": _plain(torch.sub),
    "Sum": lambda a, *x: sum(x[1:], x[0]),
    "Swish": lambda a, x: x * torch.sigmoid(a.real("alpha", 1.0) * x),
    "Tanh": _plain(torch.tanh),
    "ThresholdedRelu": lambda a, x: torch.where(x > a.real("alpha", 1.0), x, torch.zeros_like(x)),
    **shaping.FORWARD,
}

HOMOGENEOUS = frozenset(
    {
        "AveragePool", "DepthToSpace", "Expand", "Flatten", "Gather", "GlobalAveragePool", "GlobalMaxPool", "Identity",
        "LeakyRelu", "MaxPool", "PRelu", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape",
        "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
