"""Scales for Add and Sub that leave the runtimes nothing to round apart.

An integer sum is (qa - za) * sa/so + (qb - zb) * sb/so, rounded. ONNX Runtime does it in float32 and rounds ties to
even; XNNPACK uses 21-bit multipliers and rounds ties up (qs8-vadd); TFLite's own kernel shifts by 20 bits. They part
where a sum lies on a tie or closer to one than their error (about 1e-4). With sa/so = p/D and sb/so = q/D and D odd,
every sum is a multiple of 1/D and none is closer to a tie than 1/(2D): all kernels give the same integer for all
65,536 pairs. It costs a scale at most one part in p.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

__all__ = ["align_sums"]

_LEAST = 128  # p and q: at most 0.8 % of widening
_FEWEST = 32  # a much finer operand would be widened too far
_MOST_D = 1023  # 1 / (2 D) stays above the kernels' error


def align_sums(
    sums: Iterable[tuple[str, str, str]], scales: Mapping[str, float], fixed: Sequence[str]
) -> dict[str, float]:
    """New scales, only ever wider, by group; groups that need no change are left out.

    sums    (first input, second input, output) of every Add and Sub, as groups of equal scale, in graph order
    scales  scale of each group
    fixed   groups whose scale a kernel sets
    """
    now = dict(scales)
    frozen = set(fixed)
    for a, b, out in sums:
        anchor, other = (a, b) if b not in frozen else (b, a)
        if out not in frozen and out != anchor:
            parts = _denominator(min(now[anchor], now[other]) / now[out]) or _denominator(now[anchor] / now[out])
            if parts is None:
                continue
            p = int(np.floor(parts * now[anchor] / now[out]))
            now[out] = now[anchor] * parts / p
            q = np.ceil(parts * now[other] / now[out] - 1e-9)
            if other not in frozen and other not in {anchor, out} and q >= _FEWEST:
                now[other] = now[out] * float(q) / parts
        frozen |= {a, b, out}
    return {name: scale for name, scale in now.items() if scale != scales[name]}


def _denominator(ratio: float) -> int | None:
    """The smallest odd D for which D * ratio is large enough; None when the ratio is too small."""
    if ratio * _MOST_D < _LEAST:
        return None  # a tensor of zeros has next to no scale
    return int(np.ceil(_LEAST / ratio)) | 1
