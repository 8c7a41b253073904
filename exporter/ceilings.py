"""Pools with ceil_mode whose last window would start behind the image: ONNX drops it, onnx's inference counts it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["Axis", "axes_of", "drop_empty_windows"]

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis of a pool with ceil_mode: the input's size, the reach of a window, the stride, pads."""

    size: int
    reach: int
    stride: int
    low: int
    high: int

    @property
    def windows(self) -> int:
        """How many there are; one that would start behind the input is none."""
        count = -(-(self.size + self.low + self.high - self.reach) // self.stride) + 1
        return count - ((count - 1) * self.stride >= self.size + self.low)

    @property
    def over(self) -> int:
        """Places of the last window behind input and padding; less than 0: places that no window reads."""
        return (self.windows - 1) * self.stride + self.reach - self.size - self.low - self.high


def axes_of(node: ir.Node) -> list[Axis]:
    """Of a pool without auto_pad; none of them where sizes are open."""
    image, said = node.inputs[0], node.attributes
    kernel = tuple(said.get_ints("kernel_shape", []) or ())
    shape = () if image is None or image.shape is None else image.shape.dims[2:]
    sizes = [d for d in shape if isinstance(d, int)]
    if not len(sizes) == len(shape) == len(kernel):
        return []
    strides, dilations = (tuple(said.get_ints(n, []) or (1,) * len(kernel)) for n in ("strides", "dilations"))
    pads = tuple(said.get_ints("pads", []) or (0,) * 2 * len(kernel))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    rows = zip(sizes, reach, strides, pads[: len(kernel)], pads[len(kernel) :], strict=True)
    return [Axis(*row) for row in rows]


def drop_empty_windows(node: ir.Node) -> bool:
    """Write such a pool with ceil_mode=0, which counts right; False for any other node.

    An axis of it that does need the ceiling gets a longer pad instead. The shapes behind the node are forgotten.
    """
    said = node.attributes
    if node.op_type not in _POOLS or not said.get_int("ceil_mode", 0):
        return False
    if said.get_string("auto_pad", "NOTSET") != "NOTSET":
        return False
    axes = axes_of(node)
    longer = any(axis.over > 0 for axis in axes)
    if not any(axis.over < 0 for axis in axes) or (longer and said.get_int("count_include_pad", 0) == 1):
        return False
    pads = [*(axis.low for axis in axes), *(axis.high + max(axis.over, 0) for axis in axes)]
    said["ceil_mode"] = ir.AttrInt64("ceil_mode", 0)
    said["pads"] = ir.AttrInt64s("pads", pads)
    _forget_shapes(node)
    return True


def _forget_shapes(node: ir.Node) -> None:
    """Of all that is computed from it."""
    waiting, seen = [node], {id(node)}
    while waiting:
        for value in waiting.pop().outputs:
            value.shape = None
            for use in value.uses():
                if id(use.node) not in seen:
                    seen.add(id(use.node))
                    waiting.append(use.node)
