"""Convolutional autoencoder: strided down, a narrow code, nearest-neighbour up, sigmoid pixels."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["autoencoder"]


class Autoencoder(nn.Module):
    """image [N,3,32,32] -> reconstruction [N,3,32,32] in 0 to 1."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.LeakyReLU(0.1), nn.Flatten(),
            nn.Linear(32 * 64, code),
        )  # fmt: skip
        self.wide = nn.Linear(code, 32 * 64)
        self.decode = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(16, 3, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.decode(self.wide(self.encode(image)).relu().view(-1, 32, 8, 8))


def autoencoder(code: int = 32) -> nn.Module:
    return Autoencoder(code)
