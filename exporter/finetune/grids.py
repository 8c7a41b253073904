"""Grids with gradients: rounding passes them through inside the grid (straight-through), and scales are learned.

A quantized tensor is kept as its integers about the zero point (``Steps``), and layers compute on these as integer
kernels do: accumulators are sums of products of integers, exact in float32 below 2^24. So the trained network makes the
integers that the artifact makes. The gradient of a scale comes out as Esser et al. 2020, eq. 3 (round(x/s) - x/s inside
the grid, its ends outside), since real = steps * scale and steps = round(x / scale). Scales are learned as logarithms
(Jain et al. 2020, TQT), so that a step of the optimizer is a share of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exporter import grid
from exporter.types import Codebook, PerTensor, QParams

__all__ = ["LearnedScale", "LearnedWeight", "Steps", "dynamic", "requantize", "through"]

_INSIDE = 0.45  # how far from its integer a weight may start, in steps


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """real = steps * scale. steps: f32 that hold integers about the zero point; scale broadcasts against them."""

    steps: Tensor
    scale: Tensor

    @property
    def real(self) -> Tensor:
        return self.steps * self.scale


class _Requantize(torch.autograd.Function):  # type: ignore[misc]
    """clamp(round(x * factor), low, high); the gradient passes where nothing is clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor | None, low: float, high: float) -> Tensor:
        made = x if factor is None else x * factor
        ctx.save_for_backward(made, factor)
        ctx.bounds = low, high
        return made.clamp(low, high).round_()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        made, factor = ctx.saved_tensors
        masked = torch.ops.aten.hardtanh_backward(upstream, made, *ctx.bounds)
        if factor is None:
            return masked, None, None, None
        for_factor = None
        if ctx.needs_input_grad[1]:
            over = [i for i in range(made.ndim) if factor.ndim <= made.ndim - 1 - i or factor.shape[i - made.ndim] == 1]
            for_factor = (masked * made).sum(over, keepdim=True).reshape(factor.shape) / factor
        return masked.mul_(factor), for_factor, None, None


def requantize(x: Tensor, factor: Tensor | None, low: float, high: float) -> Tensor:
    """Integers in [low, high]. factor: scale of x / scale of the result, [] or so that it broadcasts; None: 1."""
    made: Tensor = _Requantize.apply(x, factor, low, high)
    return made


class _Through(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream, None


def through(x: Tensor, value: Tensor) -> Tensor:
    """``value``, with the gradient of x: straight-through (Bengio et al. 2013)."""
    made: Tensor = _Through.apply(x, value.detach())
    return made


class LearnedScale:
    """Scale of an activation: ``log`` is learned until ``fix`` sets it for good. low, high: the grid about its zero."""

    def __init__(self, q: QParams, *, learned: bool) -> None:
        self.low, self.high = q.scheme.qmin - int(q.zero_point), q.scheme.qmax - int(q.zero_point)
        self._start = torch.tensor(float(q.scale))
        self.log = torch.zeros((), requires_grad=learned)

    @property
    def learned(self) -> bool:
        return bool(self.log.requires_grad)

    @property
    def scale(self) -> Tensor:
        return self._start * self.log.exp()

    def fix(self, scale: float) -> None:
        self._start = torch.tensor(scale)
        self.log = torch.zeros(())


class LearnedWeight:
    """A weight on its grid. ``latent`` is the weight in float, in units of ``unit`` (its channels' size).

    It starts where rounding put it: at the float weight where that rounds to the given integer, else just inside the
    integer's interval. mask: 0 for weights that stay zero
    """

    def __init__(
        self,
        weight: npt.NDArray[np.float32],
        q: QParams,
        integers: npt.NDArray[np.int32],
        mask: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.q = q
        self._shape = weight.shape
        scale = grid.spread(q.scale, weight.shape, q.scheme.grain)
        centred = integers - grid.spread(q.zero_point, weight.shape, q.scheme.grain)
        held = np.clip(weight / scale, centred - _INSIDE, centred + _INSIDE)
        if isinstance(q.scheme, Codebook):
            held = np.where(grid.quantize(weight, q) == integers, weight / scale, centred)
        real = (held * scale).astype(np.float32)
        size = np.sqrt(np.square(real, dtype=np.float64).mean(axis=_all_but(q, weight.ndim), keepdims=True))
        self.unit = torch.from_numpy(np.maximum(size, 1e-12).astype(np.float32))
        self.latent = (torch.from_numpy(real) / self.unit).requires_grad_()
        self.log = torch.zeros(q.scale.shape, requires_grad=True)
        self._start = torch.from_numpy(q.scale.copy())
        self._zero = torch.from_numpy(grid.spread(q.zero_point, weight.shape, q.scheme.grain).astype(np.float32))
        self._mask = None if mask is None else torch.from_numpy(mask.astype(np.float32))
        self._levels = torch.tensor(q.scheme.levels, dtype=torch.float32) if isinstance(q.scheme, Codebook) else None

    @property
    def scale(self) -> Tensor:
        """Of the shape that QParams has."""
        return self._start * self.log.exp()

    @property
    def real(self) -> Tensor:
        """The float weight, before rounding."""
        real = self.latent * self.unit
        return real if self._mask is None else real * self._mask

    def steps(self) -> tuple[Tensor, Tensor]:
        """Integers about the zero point, and the scale spread over the weight's shape."""
        scale = self._spread(self.scale)
        x = self.real / scale
        if self._levels is not None:
            return _to_levels(x, self._levels), scale
        low, high = self.q.scheme.qmin - self._zero, self.q.scheme.qmax - self._zero
        # the half step at either end belongs to the last integer
        inside = torch.minimum(torch.maximum(x, low - 0.5), high + 0.5)
        clamped = torch.minimum(torch.maximum(x.round(), low), high)
        return through(inside, clamped), scale

    def found(self) -> tuple[QParams, npt.NDArray[np.int32]]:
        """As it ships."""
        with torch.no_grad():
            steps, _ = self.steps()
            integers = (steps.round() + self._zero).numpy().astype(np.int32)
            return QParams(self.q.scheme, self.scale.numpy().copy(), self.q.zero_point), integers

    def _spread(self, scale: Tensor) -> Tensor:
        grain = self.q.scheme.grain
        if isinstance(grain, PerTensor):
            return scale
        index = grid.spread(np.arange(scale.numel(), dtype=np.int32).reshape(scale.shape), self._shape, grain)
        return scale.reshape(-1)[torch.from_numpy(index.astype(np.int64))]


def _all_but(q: QParams, rank: int) -> tuple[int, ...]:
    """Axes over which a weight has one unit: all but the channel's."""
    axis = getattr(q.scheme.grain, "axis", None)
    return tuple(i for i in range(rank) if axis is None or i != axis % rank)


def _to_levels(x: Tensor, levels: Tensor) -> Tensor:
    with torch.no_grad():
        nearest = levels[torch.bucketize(x, (levels[1:] + levels[:-1]) / 2)]
    half = (levels[1] - levels[0]) / 2, (levels[-1] - levels[-2]) / 2
    inside = x.clamp(levels[0] - half[0], levels[-1] + half[1])
    return through(inside, nearest)


def dynamic(x: Tensor) -> Tensor:
    """As DynamicQuantizeLinear and DequantizeLinear make it: uint8 over the range of this very tensor."""
    with torch.no_grad():
        low, high = x.min().clamp(max=0), x.max().clamp(min=0)
        scale = ((high - low) / 255).clamp(min=1e-30)
        zero = (-low / scale).round().clamp(0, 255)
        steps = ((x / scale).round() + zero).clamp(0, 255) - zero
    return through(x, steps * scale)
