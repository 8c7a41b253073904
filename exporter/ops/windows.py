"""Sliding windows: ONNX padding as TFLite's SAME, VALID or an explicit PAD."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.ops.lowering import NEW, Layout, Lowering, Tensor

__all__ = ["Window", "image_layout", "pad_image", "window"]


@dataclass(frozen=True, slots=True)
class Window:
    """Two spatial axes (a 1-d window has a leading one of size 1). pads: ((top, bottom), (left, right))."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    same: bool

    @property
    def padded(self) -> bool:
        """Does it need an explicit PAD?"""
        return not self.same and any(map(any, self.pads))


def image_layout(rank: int, ctx: Lowering) -> Layout:
    """NHWC for [N,C,H,W]; [N,1,L,C] for [N,C,L]."""
    if rank == 4:
        return (0, 2, 3, 1)
    if rank == 3:
        return (0, NEW, 2, 1)
    raise ctx.refuse("", f"input of rank {rank}", "1-d and 2-d windows work")


def window(ctx: Lowering, kernel: Sequence[int], sizes: Sequence[int]) -> Window:
    """Attributes strides, dilations, pads and auto_pad; ``sizes``: the input's spatial dimensions."""
    count = len(kernel)
    if tuple(ctx.attr("kernel_shape", kernel)) != tuple(kernel):
        raise ctx.refuse(
            "kernel_shape", f"{ctx.attr('kernel_shape')} with weights of {tuple(kernel)}", "make them agree"
        )
    strides = tuple(ctx.attr("strides", (1,) * count))
    dilations = tuple(ctx.attr("dilations", (1,) * count))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    tf_same = [_same(n, r, s) for n, r, s in zip(sizes, reach, strides, strict=True)]
    auto = ctx.attr("auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        pads = tf_same
    elif auto == "SAME_LOWER":
        pads = [(b, a) for a, b in tf_same]
    elif auto == "VALID":
        pads = [(0, 0)] * count
    else:
        flat = tuple(ctx.attr("pads", (0,) * (2 * count)))
        pads = list(zip(flat[:count], flat[count:], strict=True))
    if any(p < 0 for pair in pads for p in pair):
        raise ctx.refuse("pads", "negative", "crop with Slice")
    lead: Any = (1,) * (2 - count)
    return Window(
        (*lead, *kernel),
        (*lead, *strides),
        (*lead, *dilations),
        (*(((0, 0),) * (2 - count)), *pads),  # type: ignore[arg-type]
        any(map(any, pads)) and pads == tf_same,
    )


def _same(size: int, reach: int, stride: int) -> tuple[int, int]:
    """TFLite's SAME (tflite/kernels/padding.h): the smaller half in front."""
    total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def pad_image(
    ctx: Lowering, image: Tensor, win: Window, extra: tuple[int, int] = (0, 0), *, lowest: bool = False
) -> Tensor:
    """PAD an NHWC tensor with zero (its zero point), or with the lowest number; ``extra``: more at the far ends."""
    (top, bottom), (left, right) = win.pads
    widths = [(0, 0), (top, bottom + extra[0]), (left, right + extra[1]), (0, 0)]
    if not any(map(any, widths)):
        return image
    shape = [n + a + b for n, (a, b) in zip(image.shape, widths, strict=True)]
    padded = ctx.temp(image, shape, "pad")
    padded.dynamic = image.dynamic
    if not lowest:
        ctx.emit("PAD", [image, ctx.ints(widths)], [padded], "PadOptions")
        return padded
    low = ctx.program.constant(
        np.asarray(-128, np.int8) if image.quant is not None else np.asarray(np.finfo(np.float32).min), image.quant
    )
    ctx.emit("PADV2", [image, ctx.ints(widths), low], [padded], "PadV2Options")
    return padded
