"""ONNX operators that move, pick and shape, in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from exporter.errors import UnsupportedError
from exporter.finetune.attributes import Attributes

__all__ = ["FORWARD"]

_DTYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}


def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    wanted = [int(d) for d in shape.tolist()]
    if not a.whole("allowzero"):
        wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.whole("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    rows = 1
    for d in x.shape[:axis]:
        rows *= d
    return x.reshape(rows, -1)


def _transpose(a: Attributes, x: Tensor) -> Tensor:
    return x.permute(a.wholes("perm") or list(reversed(range(x.ndim))))


def _squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    if axes is None:
        return x.squeeze()
    return x.squeeze([int(i) for i in axes.tolist()])


def _unsqueeze(a: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + axes.numel()
    for axis in sorted(int(i) % rank for i in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _concat(a: Attributes, *x: Tensor) -> Tensor:
    return torch.cat(x, a.whole("axis"))


def _split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.whole("axis")
    if sizes is not None:
        return tuple(torch.split(x, [int(n) for n in sizes.tolist()], axis))
    return tuple(torch.split(x, -(-x.shape[axis] // a.results), axis))


def _slice(
    a: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    which = range(starts.numel()) if axes is None else [int(i) % x.ndim for i in axes.tolist()]
    by = [1] * starts.numel() if steps is None else [int(i) for i in steps.tolist()]
    for axis, begin, end, step in zip(which, starts.tolist(), ends.tolist(), by, strict=True):
        first, last, _ = slice(int(begin), int(end), step).indices(x.shape[axis])
        if step > 0:
            x = x[(slice(None),) * axis + (slice(first, max(last, first), step),)]
        else:
            x = x.index_select(axis, torch.tensor(range(first, last, step), dtype=torch.int64))
    return x


def _pad(a: Attributes, x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    which = list(range(x.ndim)) if axes is None else [int(i) % x.ndim for i in axes.tolist()]
    amounts = [int(p) for p in pads.tolist()]
    before, after = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(which):
        before[axis], after[axis] = amounts[place], amounts[place + len(which)]
    order = [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]
    mode = a.text("mode", "constant")
    if mode == "constant":
        return F.pad(x, order, value=0.0 if value is None else float(value))
    return _from_inside(x, before, after, mode)


def _from_inside(x: Tensor, before: list[int], after: list[int], mode: str) -> Tensor:
    """reflect, edge, wrap: each axis by an index of its own places."""
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        if low == high == 0:
            continue
        n = x.shape[axis]
        place = torch.arange(-low, n + high)
        match mode:
            case "edge":
                place = place.clamp(0, n - 1)
            case "wrap":
                place = place % n
            case _:
                place = (place.abs() % (2 * n - 2)) if n > 1 else place * 0
                place = torch.where(place >= n, 2 * n - 2 - place, place)
        x = x.index_select(axis, place)
    return x


def _gather(a: Attributes, x: Tensor, index: Tensor) -> Tensor:
    axis = a.whole("axis") % x.ndim
    places = torch.where(index < 0, index + x.shape[axis], index).long()
    picked = x.index_select(axis, places.reshape(-1))
    return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _shape(a: Attributes, x: Tensor) -> Tensor:
    end = a.node.attributes.get_int("end", x.ndim)
    return torch.tensor(list(x.shape)[a.whole("start") : end], dtype=torch.int64)


def _cast(a: Attributes, x: Tensor) -> Tensor:
    to = a.whole("to")
    if to not in _DTYPES:
        raise UnsupportedError(a.node.name or "", "Cast", "to", f"element type {to}")
    return x.to(_DTYPES[to])


def _filled(a: Attributes, shape: Tensor) -> Tensor:
    value = a.node.attributes.get("value")
    number = torch.zeros(1) if value is None else torch.from_numpy(value.as_tensor().numpy().copy())
    return number.reshape(()).expand([int(d) for d in shape.tolist()]).clone()


def _expand(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    wanted = [int(d) for d in shape.tolist()]
    return x.expand(torch.broadcast_shapes(tuple(x.shape), tuple(wanted)))


def _depth_to_space(a: Attributes, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = a.whole("blocksize")
    if a.text("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(a: Attributes, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = a.whole("blocksize")
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


_MODES = {
    # (mode, how places map) -> F.interpolate's mode, align_corners
    ("nearest", "asymmetric"): ("nearest", None),
    ("nearest", "half_pixel"): ("nearest-exact", None),
    ("linear", "half_pixel"): ("linear", False),
    ("linear", "pytorch_half_pixel"): ("linear", False),
    ("linear", "align_corners"): ("linear", True),
    ("cubic", "half_pixel"): ("cubic", False),
    ("cubic", "align_corners"): ("cubic", True),
}


def _resize(
    a: Attributes, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    how = (a.text("mode", "nearest"), a.text("coordinate_transformation_mode", "half_pixel"))
    rounding = a.text("nearest_mode", "round_prefer_floor")
    fits = how in _MODES and (how[0] != "nearest" or (how[1] == "asymmetric") == (rounding == "floor"))
    if not fits or a.wholes("axes") or a.whole("antialias"):
        raise UnsupportedError(a.node.name or "", "Resize", "mode", f"{how[0]}, {how[1]}, {rounding}")
    mode, corners = _MODES[how]
    mode = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}.get(x.ndim, mode), "cubic": "bicubic"}.get(
        mode, mode
    )
    if sizes is not None and sizes.numel():
        size = [int(n) for n in sizes.tolist()[2:]]
    else:
        assert scales is not None
        size = [int(n * s) for n, s in zip(x.shape[2:], scales.tolist()[2:], strict=True)]
    return F.interpolate(x, size, mode=mode, align_corners=corners)


def _tile(a: Attributes, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat([int(n) for n in repeats.tolist()])


def _range(a: Attributes, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


def _trilu(a: Attributes, x: Tensor, k: Tensor | None = None) -> Tensor:
    diagonal = 0 if k is None else int(k)
    return torch.triu(x, diagonal) if a.whole("upper", 1) else torch.tril(x, diagonal)


FORWARD: Mapping[str, Callable[..., Any]] = {
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "DepthToSpace": _depth_to_space,
    "Dropout": lambda a, x, *rest: x,
    "Einsum": lambda a, *x: torch.einsum(a.text("equation", ""), *x),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": lambda a, x: x,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
    "Where": lambda a, condition, x, y: torch.where(condition, x, y),
}
