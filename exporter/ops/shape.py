"""Operators that move values and do not change them."""

from __future__ import annotations

from exporter.ops.op import Float, InputRole, Op, Same

__all__ = ["ROWS"]

_STATIC_TAIL: tuple[InputRole, ...] = ("activation", "static")

ROWS = (
    Op("Identity", Same()),
    Op("Reshape", Same(), _STATIC_TAIL),
    Op("Flatten", Same()),
    Op("Squeeze", Same(), _STATIC_TAIL),
    Op("Unsqueeze", Same(), _STATIC_TAIL),
    Op("Transpose", Same()),
    Op("Slice", Same(), _STATIC_TAIL),
    Op("Split", Same(), _STATIC_TAIL),
    Op("Concat", Same()),
    Op("Pad", Same(), _STATIC_TAIL),
    Op("Expand", Same(), _STATIC_TAIL),
    Op("Tile", Same(), _STATIC_TAIL),
    Op("DepthToSpace", Same()),
    Op("SpaceToDepth", Same()),
    Op("Resize", Same(), _STATIC_TAIL),
    Op("Gather", Float("reads a float table"), _STATIC_TAIL),
    Op("Shape", Float("computes a shape"), ("static",)),
)
