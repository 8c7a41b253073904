"""A small residual CNN for 8 x 8 grey images."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn


class Block(nn.Module):
    """conv, batch norm, ReLU, conv, batch norm, plus the input, ReLU. [N,C,H,W] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


class DigitNet(nn.Module):
    """[N,1,8,8] in 0 to 1 -> [N,10] logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.block1 = Block(16)
        self.down = nn.Sequential(nn.Conv2d(16, 32, 3, 2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.block2 = Block(32)
        self.head = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        y = self.block2(self.down(self.block1(self.stem(image))))
        return cast(torch.Tensor, self.head(y.mean((2, 3))))


def build() -> nn.Module:
    """The network with fresh weights; the recipe names this function."""
    return DigitNet()
