"""Convolutions and pools of ONNX in torch: one, two and three spatial axes, any padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from exporter.errors import UnsupportedError
from exporter.finetune.attributes import Attributes

__all__ = ["average_pool", "conv", "conv_transpose", "max_pool"]

_CONV: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSE: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX: Any = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: Any = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def conv(a: Attributes, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """ONNX Conv of x [N,C,...] with w [M,C/group,...]: [N,M,...]."""
    rank = x.ndim - 2
    before, after = _pads(a, x.shape[2:], w.shape[2:])
    if before != after:
        x, before = F.pad(x, _torch_order(before, after)), [0] * rank
    strides, dilations = a.wholes("strides") or 1, a.wholes("dilations") or 1
    made: Tensor = _CONV[rank](x, w, bias, strides, before, dilations, a.whole("group", 1))
    return made


def conv_transpose(a: Attributes, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """ONNX ConvTranspose of x [N,C,...] with w [C,M/group,...]: [N,M,...].

    Raises UnsupportedError where the padding follows from the size of the output.
    """
    rank = x.ndim - 2
    if a.wholes("output_shape") or a.text("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        raise UnsupportedError(a.node.name or "", "ConvTranspose", "auto_pad", "padding that follows the output's size")
    pads = a.wholes("pads") or [0] * 2 * rank
    before, after = pads[:rank], pads[rank:]
    strides, dilations = a.wholes("strides") or [1] * rank, a.wholes("dilations") or 1
    extra = a.wholes("output_padding") or [0] * rank
    if before == after:
        made: Tensor = _TRANSPOSE[rank](x, w, bias, strides, before, extra, a.whole("group", 1), dilations)
        return made
    whole: Tensor = _TRANSPOSE[rank](x, w, bias, strides, 0, extra, a.whole("group", 1), dilations)
    return F.pad(whole, [-p for p in _torch_order(before, after)])


def max_pool(a: Attributes, x: Tensor) -> Tensor:
    """ONNX MaxPool of x [N,C,...]. Raises UnsupportedError where the places of the maxima are wanted."""
    if a.results > 1:
        raise UnsupportedError(a.node.name or "", "MaxPool", "Indices", "the places of the maxima")
    kernel = a.wholes("kernel_shape") or []
    before, after = _pads(a, x.shape[2:], kernel)
    if any(before + after):  # torch pads by at most half a window
        x = F.pad(x, _torch_order(before, after), value=float("-inf"))
    strides, dilations = a.wholes("strides") or [1] * len(kernel), a.wholes("dilations") or 1
    made: Tensor = _MAX[len(kernel)](x, kernel, strides, 0, dilations, bool(a.whole("ceil_mode")))
    return made


def average_pool(a: Attributes, x: Tensor) -> Tensor:
    """ONNX AveragePool of x [N,C,...]; what was padded counts only where it says so.

    Raises UnsupportedError for dilations.
    """
    kernel = a.wholes("kernel_shape") or []
    if any(d != 1 for d in a.wholes("dilations") or []):
        raise UnsupportedError(a.node.name or "", "AveragePool", "dilations", "other than 1")
    before, after = _pads(a, x.shape[2:], kernel)
    strides, ceil = a.wholes("strides") or [1] * len(kernel), bool(a.whole("ceil_mode"))
    counted = bool(a.whole("count_include_pad"))
    pool = _AVERAGE[len(kernel)]
    if before == after and all(2 * p <= k for p, k in zip(before, kernel, strict=True)):
        found: Tensor = pool(x, kernel, strides, before, ceil, counted)
        return found
    around = _torch_order(before, after)
    made: Tensor = pool(F.pad(x, around), kernel, strides, 0, ceil)
    if counted:
        return made
    share: Tensor = pool(F.pad(torch.ones_like(x[:1, :1]), around), kernel, strides, 0, ceil)
    return made / share


def _pads(a: Attributes, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Before and after, by spatial axis."""
    rank, auto = len(sizes), a.text("auto_pad", "NOTSET")
    if auto in {"NOTSET", "VALID"}:
        pads = (a.wholes("pads") if auto == "NOTSET" else None) or [0] * 2 * rank
        return pads[:rank], pads[rank:]
    strides, dilations = a.wholes("strides") or [1] * rank, a.wholes("dilations") or [1] * rank
    whole = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    less, more = [p // 2 for p in whole], [p - p // 2 for p in whole]
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def _torch_order(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """As F.pad wants them: the last axis first, before and after in turn."""
    return [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]
