"""A weighted node as a matrix product: its weight as rows, what it reads as columns of patches.

Every Conv, Gemm and MatMul by a constant is y = W x for each output position; a grouped convolution is one such
product for each group. Rounding algorithms see [groups, rows, columns] and nothing of kernels and strides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.types import Grain, PerChannel, PerGroup, PerTensor

__all__ = ["Layer", "layers_of"]

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[Any]  # [groups, rows, columns]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One node. shape: of its weight as the graph has it; turned: the weight lies as [in, out]."""

    node: ir.Node
    weight: str
    bias: str | None
    source: str
    shape: tuple[int, ...]
    groups: int = 1
    turned: bool = False

    def matrix(self, weight: Matrix) -> Matrix:
        """[groups, rows, columns] of a tensor that lies like the weight."""
        if self.turned:
            weight = weight.T
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)

    def tensor(self, matrix: Matrix) -> Matrix:
        """The inverse of ``matrix``."""
        if self.turned:
            return np.ascontiguousarray(matrix.reshape(self.shape[::-1]).T)
        return matrix.reshape(self.shape)

    def spread(self, numbers: Matrix, grain: Grain) -> Matrix:
        """Scales or zero points as numbers that broadcast against the matrix."""
        match grain:
            case PerTensor():
                return numbers.reshape(1, 1, 1)
            case PerChannel():
                return numbers.reshape(self.groups, -1, 1)
            case PerGroup(_, size):
                rows = numbers.T if self.turned else numbers
                return np.repeat(rows, size, axis=1)[None, :, : self.matrix(np.empty(self.shape, np.int8)).shape[2]]

    def columns(self, source: Floats, step: int, start: int = 0) -> Floats:
        """What its rows are multiplied with: f32[groups, positions, columns], every step-th output position."""
        if self.node.op_type != "Conv":
            return source.reshape(1, -1, source.shape[-1])[:, start::step]
        windows = self._windows(source)
        rank = source.ndim - 2
        counts = (windows.shape[0], *windows.shape[2 : 2 + rank])
        places = np.unravel_index(np.arange(start, int(np.prod(counts)), step), counts)
        index: tuple[Any, ...] = (places[0], slice(None), *places[1:])
        picked = windows[index]  # [positions, channels, *kernel]
        return np.moveaxis(picked.reshape(len(picked), self.groups, -1), 1, 0)

    @property
    def depth(self) -> int:
        """Columns."""
        return self.shape[0] if self.turned else math.prod(self.shape[1:])

    def positions(self, source: npt.NDArray[Any]) -> int:
        """Output positions of one batch."""
        if self.node.op_type != "Conv":
            return int(source.size // source.shape[-1])
        rank = source.ndim - 2
        strides, dilations = (self._numbers(name, rank) for name in ("strides", "dilations"))
        before, after = self._pads(source.shape[2:], self.shape[2:], strides, dilations)
        sides = zip(source.shape[2:], before, after, self.shape[2:], strides, dilations, strict=True)
        return len(source) * math.prod(int((n + a + b - (k - 1) * d - 1) // s + 1) for n, a, b, k, s, d in sides)

    def _windows(self, source: Floats) -> Floats:
        """A view [samples, channels, *positions, *kernel] of the padded input."""
        rank = source.ndim - 2
        kernel = self.shape[2:]
        strides, dilations = (self._numbers(name, rank) for name in ("strides", "dilations"))
        before, after = self._pads(source.shape[2:], kernel, strides, dilations)
        padded = np.pad(source, [(0, 0), (0, 0), *zip(before, after, strict=True)])
        reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
        place = tuple(slice(None, None, s) for s in strides)
        taps = tuple(slice(None, None, d) for d in dilations)
        found: Floats = windows[(slice(None), slice(None), *place, *taps)]
        return found

    def _numbers(self, name: str, rank: int) -> tuple[int, ...]:
        found = graph.attribute(self.node, name)
        return tuple(found) if isinstance(found, tuple) else (1,) * rank

    def _pads(
        self, sizes: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        rank = len(sizes)
        auto = graph.attribute(self.node, "auto_pad", "NOTSET")
        if auto in {"SAME_UPPER", "SAME_LOWER"}:
            needed = [
                max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
                for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
            ]
            small, large = tuple(n // 2 for n in needed), tuple(n - n // 2 for n in needed)
            return (small, large) if auto == "SAME_UPPER" else (large, small)
        pads = graph.attribute(self.node, "pads", (0,) * (2 * rank))
        assert isinstance(pads, tuple)
        return (0,) * rank if auto == "VALID" else pads[:rank], (0,) * rank if auto == "VALID" else pads[rank:]


def layers_of(model: ir.Model) -> list[Layer]:
    """Every Conv, Gemm and MatMul with a constant weight, in graph order."""
    return [layer for node in model.graph if (layer := _layer(node)) is not None]


def _layer(node: ir.Node) -> Layer | None:
    if node.op_type not in {"Conv", "Gemm", "MatMul"} or len(node.inputs) < 2:
        return None
    weight, source = graph.constant(node.inputs[1]), node.inputs[0]
    if weight is None or source is None or graph.constant(source) is not None:
        return None
    if node.op_type != "Conv" and (weight.ndim != 2 or bool(node.attributes.get_int("transA", 0))):
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    named = bias.name if bias is not None and graph.constant(bias) is not None else None
    turned = node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.attributes.get_int("transB", 0))
    groups = node.attributes.get_int("group", 1) if node.op_type == "Conv" else 1
    name = node.inputs[1].name  # type: ignore[union-attr]
    assert name is not None
    assert source.name is not None
    return Layer(node, name, named, source.name, weight.shape, groups, turned)
