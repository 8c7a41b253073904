"""Reading a feature map at computed places: gathers of the places around, weighed.

An image gets a border first, so wide that no place has to be asked whether it lies inside.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from exporter.ops.lowering import Lowering, Tensor
from exporter.ops.moves import Moves
from exporter.ops.steps import Steps

__all__ = ["Pads", "bordered", "clip", "sample"]

Pads = Sequence[tuple[int, int]]
_A = -0.75  # ONNX GridSample, cubic
_EXACT = 1 << 24  # whole numbers below are exact in float32


def bordered(ctx: Lowering, image: Tensor, pads: Pads, mode: str) -> Tensor:
    """[N, ..., C] with more places around: zeros, or others of the image by a mode of numpy.pad."""
    moves = Moves(ctx)
    if mode == "zeros":
        return moves.pad(image, [(0, 0), *pads, (0, 0)])
    for axis, pad in enumerate(pads, 1):
        if any(pad):
            image = moves.gather(image, np.pad(np.arange(image.shape[axis]), pad, mode=mode), axis)  # type: ignore[call-overload]
    return image


def clip(ctx: Lowering, x: Tensor, low: float, high: float) -> Tensor:
    """x between two numbers."""
    steps = Steps(ctx)
    return steps.minimum(steps.maximum(x, low), high)


def sample(ctx: Lowering, image: Tensor, places: Sequence[Tensor], first: Sequence[int], mode: str) -> Tensor:
    """[N, P, C]: ``image`` [N, ..., C] at P places of each batch entry.

    places  by spatial axis, [N, P] float; all that is read around them lies in the image
    first   index in the image of the place 0, by spatial axis: how far its border reaches
    mode    nearest (places are whole numbers), linear or cubic
    """
    steps, moves = Steps(ctx), Moves(ctx)
    batch, *sizes, channels = image.shape
    count = math.prod(sizes)
    if count >= _EXACT:
        raise ctx.refuse("", f"{count} places", "smaller images work")
    flat = moves.reshape(image, [batch, count, channels])
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    below = [x if mode == "nearest" else steps.unary("FLOOR", x) for x in places]
    taps = [_weights(ctx, x, f, mode) for x, f in zip(places, below, strict=True)]
    start = sum(n * s for n, s in zip(first, strides, strict=True))
    index: Tensor | None = None
    for floor, stride in zip(below, strides, strict=True):
        step = steps.mul(floor, stride) if stride != 1 else floor
        index = step if index is None else steps.add(index, step)
    assert index is not None
    base = steps.cast(index, np.int32)
    total: Tensor | None = None
    for group in itertools.product(*taps):
        away = start + sum(tap * s for (tap, _), s in zip(group, strides, strict=True))
        part = moves.gather(flat, steps.add(base, away) if away else base, 1, batch_dims=1)
        factors = [w for _, w in group if w is not None]
        if factors:
            factor = factors[0]
            for other in factors[1:]:
                factor = steps.mul(factor, other)
            part = steps.mul(part, moves.reshape(factor, [*factor.shape, 1]))
        total = part if total is None else steps.add(total, part)
    assert total is not None
    return total


def _weights(ctx: Lowering, x: Tensor, floor: Tensor, mode: str) -> list[tuple[int, Tensor | None]]:
    """By place relative to the floor, its weight; None for 1."""
    if mode == "nearest":
        return [(0, None)]
    steps = Steps(ctx)
    after = steps.sub(x, floor)
    before = steps.sub(ctx.number(1.0), after)
    if mode == "linear":
        return [(0, before), (1, after)]
    return [
        (-1, _polynomial(ctx, after, (_A, -2 * _A, _A, 0.0))),
        (0, _polynomial(ctx, after, (_A + 2, -(_A + 3), 0.0, 1.0))),
        (1, _polynomial(ctx, before, (_A + 2, -(_A + 3), 0.0, 1.0))),
        (2, _polynomial(ctx, before, (_A, -2 * _A, _A, 0.0))),
    ]


def _polynomial(ctx: Lowering, x: Tensor, factors: Sequence[float]) -> Tensor:
    """Horner's scheme, the highest power first."""
    steps = Steps(ctx)
    total = steps.mul(x, factors[0])
    for factor in factors[1:-1]:
        total = steps.mul(steps.add(total, factor) if factor else total, x)
    return steps.add(total, factors[-1]) if factors[-1] else total
