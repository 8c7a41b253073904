"""Roundings that are learned: each weight stays between where it was put and the next level, until it is settled.

Between the two levels it is moved by a rectified sigmoid (Nagel et al. 2020, eq. 23; Louizos et al. 2018). No
regulariser drives it to either: the surest weights are settled step by step and those that are left learn to make up
for it (progressive adaptive rounding, Li and Panda 2024, TesseraQ). On the first block of ResNet-20 with 2 bits the
regulariser of AdaRound left the error of GPTQ as it was, settling lowers it by a third (decision 0020).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from exporter.finetune.grids import LearnedWeight
from exporter.types import Codebook, QParams

__all__ = ["SoftWeight"]

_ZETA, _GAMMA = 1.1, -0.1  # stretch of the sigmoid
_LEAN = 0.2  # of its way to the float weight, where a weight starts
_MARGIN = 0.02
_WIDEST = 0.5  # of the logarithm of a scale: a bias at its bound stays within int32


class SoftWeight(LearnedWeight):
    """``doubt`` and the logarithms of the scales (``log``) are learned."""

    def __init__(self, weight: npt.NDArray[np.float32], q: QParams, integers: npt.NDArray[np.int32]) -> None:
        super().__init__(weight, q, integers)
        self._from = torch.from_numpy(integers.astype(np.float32)) - self._zero
        with torch.no_grad():
            away = self.real / self._spread(self.scale) - self._from
            self._gap = self._next(torch.where(away < 0, -1.0, 1.0)) - self._from
            share = (_LEAN * away / self._gap).clamp(_MARGIN, 1 - _MARGIN)
            ratio = (share - _GAMMA) / (_ZETA - _GAMMA)
        self.doubt = torch.log(ratio / (1 - ratio)).requires_grad_()
        self._settled = torch.zeros(share.shape, dtype=torch.bool)
        self._moved = torch.zeros(share.shape)

    def share(self) -> Tensor:
        """Of the way to the next level: 0 to 1."""
        between = (torch.sigmoid(self.doubt) * (_ZETA - _GAMMA) + _GAMMA).clamp(0, 1)
        return torch.where(self._settled, self._moved, between)

    def steps(self) -> tuple[Tensor, Tensor]:
        return self._from + self._gap * self.share(), self._spread(self.scale)

    def sureness(self) -> Tensor:
        """[weights]: 0 for those in the middle, 0.5 for settled ones."""
        with torch.no_grad():
            return (self.share() - 0.5).abs().flatten()

    def settle(self, sure: float) -> None:
        """For good, all that are so sure."""
        with torch.no_grad():
            share = self.share()
            self._moved = (share > 0.5).to(torch.float32)
            self._settled = (share - 0.5).abs() >= sure
            self.log.clamp_(-_WIDEST, _WIDEST)

    def _next(self, way: Tensor) -> Tensor:
        """The level beside the one where each weight is, that way; at the end of the grid the other way."""
        if self._levels is not None:
            place = torch.bucketize(self._from, self._levels)
            last = len(self._levels) - 1
            there = place + way.to(torch.int64)
            return self._levels[torch.where((there < 0) | (there > last), place - way.to(torch.int64), there)]
        assert not isinstance(self.q.scheme, Codebook)
        there = self._from + way
        outside = (there < self.q.scheme.qmin - self._zero) | (there > self.q.scheme.qmax - self._zero)
        return torch.where(outside, self._from - way, there)
