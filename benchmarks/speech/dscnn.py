"""A depthwise-separable CNN over log-mel spectrograms."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

__all__ = ["build"]


def _separable(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


class DSCNN(nn.Module):
    """[N,1,mels,frames] -> [N,classes] logits (after Zhang et al. 2017, "Hello Edge", section 3.4)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width // 2, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            _separable(width // 2, width),
            _separable(width, width, stride=2),
            _separable(width, width),
            _separable(width, 2 * width, stride=2),
            _separable(2 * width, 2 * width),
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        y = self.blocks(self.stem(wave)).mean((2, 3))
        return cast(torch.Tensor, self.head(self.dropout(y)))


def build() -> nn.Module:
    """Ten digits, 64 channels, fresh weights; the recipe names this function."""
    return DSCNN(10, 64)
