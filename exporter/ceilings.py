"""Pools with ceil_mode whose last window would start behind the image: ONNX drops it, onnx's inference counts it."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["drop_empty_windows"]

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})


def drop_empty_windows(node: ir.Node) -> bool:
    """Write such a pool with ceil_mode=0, which counts right; False for any other node.

    An axis of it that does need the ceiling gets a longer pad instead. The shapes behind the node are forgotten.
    """
    image = node.inputs[0].shape if node.op_type in _POOLS and node.inputs[0] is not None else None
    said = node.attributes
    if image is None or not said.get_int("ceil_mode", 0) or said.get_string("auto_pad", "NOTSET") != "NOTSET":
        return False
    kernel = tuple(said.get_ints("kernel_shape", []) or ())
    sizes = [d for d in image.dims[2:] if isinstance(d, int)]
    if len(sizes) != len(kernel):
        return False
    given = tuple(said.get_ints("pads", []) or (0,) * 2 * len(kernel))
    strides, dilations = (tuple(said.get_ints(n, []) or (1,) * len(kernel)) for n in ("strides", "dilations"))
    pads, empty = list(given), False
    for axis, (size, width, stride, dilation) in enumerate(zip(sizes, kernel, strides, dilations, strict=True)):
        begin, end = given[axis], given[len(kernel) + axis]
        steps, rest = divmod(size + begin + end - (width - 1) * dilation - 1, stride)
        if rest and (steps + 1) * stride >= size + begin:
            empty = True
        elif rest:
            pads[len(kernel) + axis] += stride - rest
    averages_pads = said.get_int("count_include_pad", 0) == 1
    if not empty or (averages_pads and tuple(pads) != given):
        return False
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
