"""Operators that are known and refused, each with its reason."""

from __future__ import annotations

from collections.abc import Callable

from exporter.ops.lowering import Lowering
from exporter.ops.op import STORED, Float, Op

__all__ = ["ROWS"]


def _refusing(found: str, hint: str) -> Callable[[Lowering], None]:
    def lower(ctx: Lowering) -> None:
        raise ctx.refuse("", found, hint)

    return lower


_RANDOM = _refusing("random numbers, which no two runtimes draw alike", "draw them outside and make them an input")
_DRAWING = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")

_PICTURES = _refusing(
    "compressed pictures, which TFLite does not decode", "decode them before, and make the pixels an input"
)
_REGIONS = _refusing("regions as large as the run tells", "RoiAlign with a sampling_ratio works")

ROWS = (
    *(Op(op, Float("draws random numbers"), lower=_RANDOM, types=STORED) for op in _DRAWING),
    Op("ImageDecoder", Float("decodes pictures"), lower=_PICTURES, types=STORED),
    Op("MaxRoiPool", Float("no integer kernel in either runtime"), ("activation", "static"), lower=_REGIONS),
)
