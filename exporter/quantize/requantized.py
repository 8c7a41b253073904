"""Scales for a requantization that leave the runtimes nothing to round apart.

From one grid to a coarser one of the same width: ONNX Runtime divides and multiplies by float32 scales and rounds ties
to even; XNNPACK multiplies by the ratio of the scales rounded to 1/256 and rounds ties up (qs8-vcvt). With a ratio of
m/256, m odd, only 128 steps above or below zero lie on a tie. A grid of 256 integers holds one of the two, which its
zero point tells; with a hair more than m/256 for the one above, and less for the one below, both round it up. All
integers then become the same. It widens the finer scale by at most m / (m - 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

__all__ = ["align_requantized"]

_PARTS = 256
_HAIR = 1e-6  # more than the error of a float32 scale
_MOST = 1.7  # of widening, where one scale for all would be 85 times as coarse; beyond it the runtimes may part


def align_requantized(
    pairs: Iterable[tuple[str, str]],
    scales: Mapping[str, float],
    zero_points: Mapping[str, int],
    fixed: Iterable[str],
) -> dict[str, float]:
    """New scales, only ever wider, by group; groups that need no change are left out.

    pairs        (finer, coarser) of each requantization, as groups of equal scale
    scales       scale of each group
    zero_points  of each group, as int8
    fixed        groups whose scale must stay
    """
    now, frozen = dict(scales), set(fixed)
    for finer, coarser in sorted(pairs, key=lambda pair: -scales[pair[1]]):
        parts = int(np.ceil(_PARTS * now[finer] / now[coarser] - _HAIR)) | 1
        wanted = now[coarser] * parts / _PARTS * (1 + _HAIR if zero_points[finer] < 0 else 1 - _HAIR)
        if finer not in frozen and wanted <= _MOST * now[finer]:
            now[finer] = wanted
        frozen |= {finer, coarser}
    return {name: scale for name, scale in now.items() if scale != scales[name]}
