"""A transposed convolution as plain ones.

With stride s, output place s * q + r is a convolution of the input around q with every s-th weight, beginning at r: one
small kernel for each phase r (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?").
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.ops.lowering import Array

__all__ = ["POINT", "Axis", "axes_of", "phases_of"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis. ``size`` in, ``out`` places; ``pad``: places cut away in front."""

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    pad: int

    @property
    def reach(self) -> int:
        """How many places a weight spans."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def taps(self) -> int:
        """Weights of a phase."""
        return math.ceil(self.reach / self.stride)

    @property
    def blocks(self) -> tuple[int, int]:
        """First and last block of ``stride`` places that is wanted."""
        return self.pad // self.stride, (self.pad + self.out - 1) // self.stride

    @property
    def pads(self) -> tuple[int, int]:
        """Padding of the convolution that makes those blocks."""
        first, last = self.blocks
        return self.taps - 1 - first, last - (self.size - 1)

    @property
    def crop(self) -> tuple[int, int]:
        """What to cut away from the blocks."""
        first, last = self.blocks
        begin = self.pad - self.stride * first
        return begin, self.stride * (last - first + 1) - begin - self.out


POINT = Axis(1, 1, 1, 1, 1, 0)


def axes_of(attr: Callable[..., Any], sizes: Sequence[int], kernel: Sequence[int], out: Sequence[int]) -> list[Axis]:
    """The spatial axes of a ConvTranspose; ``attr`` reads an attribute or gives the default."""
    count = len(sizes)
    strides, dilations = attr("strides", (1,) * count), attr("dilations", (1,) * count)
    extra, pads = attr("output_padding", (0,) * count), attr("pads", (0,) * (2 * count))
    auto = attr("auto_pad", "NOTSET")
    spread = attr("output_shape", None) is not None or auto in {"SAME_UPPER", "SAME_LOWER"}
    axes = []
    for i in range(count):
        total = strides[i] * (sizes[i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - out[i]
        before = 0 if auto == "VALID" else pads[i]
        if spread:  # the odd place goes to the end for SAME_UPPER, else to the beginning
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        axes.append(Axis(sizes[i], out[i], kernel[i], strides[i], dilations[i], before))
    return axes


def phases_of(weight: Array, axes: Sequence[Axis], group: int) -> dict[tuple[int, ...], Array]:
    """Weights [in, out of a group, ...] -> for each phase those of its convolution [out, in of a group, ...]."""
    inside, out = weight.shape[:2]
    spread = np.zeros((inside, out, *(a.taps * a.stride for a in axes)), np.float32)
    held: tuple[Any, ...] = (slice(None), slice(None), *(slice(0, a.reach, a.dilation) for a in axes))
    spread[held] = weight
    turned = spread.reshape(group, inside // group, out, *spread.shape[2:]).swapaxes(1, 2)
    turned = turned.reshape(group * out, inside // group, *spread.shape[2:])
    found = {}
    for phase in itertools.product(*(range(a.stride) for a in axes)):
        every: tuple[Any, ...] = tuple(slice(p, None, a.stride) for p, a in zip(phase, axes, strict=True))
        found[phase] = np.flip(turned[:, :, *every], tuple(range(2, turned.ndim)))
    return found
