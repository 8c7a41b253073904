"""Depthwise-separable CNN for keyword spotting (Zhang et al. 2017, "Hello Edge", section 3.4)."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["dscnn"]


class DSCNN(nn.Module):
    """features [N,1,mels,frames] -> logits [N,classes]."""

    def __init__(self, classes: int, width: int, blocks: int) -> None:
        super().__init__()
        stem = nn.Conv2d(1, width, (10, 4), stride=2, padding=(5, 1), bias=False)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU()]
        for _ in range(blocks):
            layers += [nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU(), nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.features(features)).flatten(1))


def dscnn(classes: int = 10, width: int = 64, blocks: int = 4) -> nn.Module:
    return DSCNN(classes, width, blocks)
