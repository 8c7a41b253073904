"""What a rounder is: of one weight alone, or of a layer by what it reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from exporter.types import Codebook, QParams, Scheme

__all__ = ["LayerRounder", "WeightRounder", "in_bytes"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
WeightRounder = Callable[[Floats, QParams], tuple[QParams, npt.NDArray[np.int32]]]
# target [G,rows,K], covariance [G,K,K], scale and zero point that broadcast, scheme -> integers i32[G,rows,K]
LayerRounder = Callable[[Doubles, Doubles, Doubles, Doubles, Scheme | Codebook], npt.NDArray[np.int32]]


def in_bytes(integers: npt.NDArray[np.int32], scheme: Scheme | Codebook) -> npt.NDArray[np.integer]:
    """In one byte each where they fit: those of a whole model are held at once."""
    return integers.astype(np.int8) if scheme.qmin >= -128 and scheme.qmax <= 127 else integers
