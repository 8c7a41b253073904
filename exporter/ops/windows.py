"""Sliding windows over any number of spatial axes: ONNX's padding rules, and how feature maps lie in TFLite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from exporter.ops.lowering import NEW, Array, Layout, Lowering, Tensor
from exporter.ops.moves import Moves

__all__ = ["Pads", "Window", "clamped", "image_layout", "pad_image", "same_pads", "window"]

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Window:
    """One entry for each spatial axis. pads: (begin, end)."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads

    @property
    def reach(self) -> tuple[int, ...]:
        """How many places a window spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def flat(self) -> Window:
        """At least two axes: a 1-d window gets a leading one of size 1."""
        lead = 2 - len(self.kernel)
        if lead <= 0:
            return self
        ones = (1,) * lead
        return Window(ones + self.kernel, ones + self.strides, ones + self.dilations, ((0, 0),) * lead + self.pads)

    def part(self, start: int, stop: int) -> Window:
        """Some of the axes."""
        every = slice(start, stop)
        return Window(self.kernel[every], self.strides[every], self.dilations[every], self.pads[every])

    def taps(self, axis: int, count: int) -> Array:
        """Which places of the input each of ``count`` windows sees along an axis, [count, kernel]; some lie outside."""
        starts = np.arange(count) * self.strides[axis] - self.pads[axis][0]
        return starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]

    def is_same(self, sizes: Sequence[int]) -> bool:
        """Is the padding what TFLite calls SAME, over an input of these spatial sizes?"""
        rows = zip(sizes, self.reach, self.strides, strict=True)
        return any(map(any, self.pads)) and self.pads == tuple(same_pads(*row) for row in rows)


def image_layout(rank: int, ctx: Lowering) -> Layout:
    """NHWC for [N,C,H,W], [N,1,L,C] for [N,C,L], NDHWC for [N,C,D,H,W]."""
    if rank == 3:
        return (0, NEW, 2, 1)
    if rank in {4, 5}:
        return (0, *range(2, rank), 1)
    raise ctx.refuse("", f"input of rank {rank}", "one to three spatial axes work")


def window(ctx: Lowering, kernel: Sequence[int], sizes: Sequence[int]) -> Window:
    """Attributes strides, dilations, pads and auto_pad; ``sizes``: the input's spatial dimensions."""
    count = len(sizes)
    if tuple(ctx.attr("kernel_shape", kernel)) != tuple(kernel) or len(kernel) != count:
        raise ctx.refuse("kernel_shape", f"{ctx.attr('kernel_shape', kernel)} for {kernel}", "make them agree")
    strides = tuple(ctx.attr("strides", (1,) * count))
    dilations = tuple(ctx.attr("dilations", (1,) * count))
    bare = Window(tuple(kernel), strides, dilations, ((0, 0),) * count)
    rows = list(zip(sizes, bare.reach, strides, strict=True))
    auto = ctx.attr("auto_pad", "NOTSET")
    flat = tuple(ctx.attr("pads", (0,) * (2 * count)))
    match auto:
        case "SAME_UPPER":
            pads: Pads = tuple(same_pads(*row) for row in rows)
        case "SAME_LOWER":
            pads = tuple(same_pads(*row)[::-1] for row in rows)
        case "VALID":
            pads = bare.pads
        case "NOTSET" | "":
            pads = tuple(zip(flat[:count], flat[count:], strict=True))
        case _:
            raise ctx.refuse("auto_pad", repr(auto), "NOTSET, SAME_UPPER, SAME_LOWER and VALID are known")
    for size, reach, pad in zip(sizes, bare.reach, pads, strict=True):
        if size + sum(pad) < reach:
            found = f"a window over {reach} places of {size} with {sum(pad)} of padding"
            raise ctx.refuse("kernel_shape", found, "use a larger input")
    return replace(bare, pads=pads)


def clamped(ctx: Lowering, places: Array, size: int) -> Array:
    """Places outside of the input replaced by others of their window, which changes no maximum."""
    inside = (places >= 0) & (places < size)
    if not inside.any(1).all():
        raise ctx.refuse("pads", "a window lies outside of the input", "use smaller pads")
    low = np.where(inside, places, size).min(1, keepdims=True)
    high = np.where(inside, places, -1).max(1, keepdims=True)
    return np.clip(places, low, high)


def same_pads(size: int, reach: int, stride: int) -> tuple[int, int]:
    """TFLite's SAME (tflite/kernels/padding.h): the smaller half in front."""
    total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def pad_image(ctx: Lowering, image: Tensor, pads: Pads, *, lowest: bool = False) -> Tensor:
    """PAD a channels-last tensor with zero (its zero point), or with the lowest number; a negative pad crops."""
    widths = [(0, 0), *pads, (0, 0)]
    if not lowest:
        return Moves(ctx).pad(image, widths)
    kind = image.dtype
    low = np.asarray(np.finfo(kind).min if kind.kind == "f" else np.iinfo(kind).min, kind)
    return Moves(ctx).pad(image, widths, ctx.program.constant(low, image.quant))
