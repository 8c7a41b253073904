"""Sub-pixel super-resolution (ESPCN, Shi et al. 2016): convolutions, then channels become pixels."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["superresolution"]


class SuperResolution(nn.Module):
    """image [N,3,24,24] -> [N,3,24 factor,24 factor]."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 5, padding=2), nn.PReLU(width), nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width),
            nn.Conv2d(width, 3 * factor**2, 3, padding=1), nn.PixelShuffle(factor),
        )  # fmt: skip

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.body(image)


def superresolution(width: int = 24, factor: int = 2) -> nn.Module:
    return SuperResolution(width, factor)
