"""MobileNetV1 (Howard et al. 2017, table 1) at CIFAR size."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["mobilenet_v1"]

# output channels, stride
STAGES = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU()]


class MobileNetV1(nn.Module):
    """image [N,3,32,32] -> logits [N,classes]."""

    def __init__(self, classes: int, width: float) -> None:
        super().__init__()
        channels = int(32 * width)
        layers = _conv(3, channels, 3)
        for wide, stride in STAGES:
            out = int(wide * width)
            layers += _conv(channels, channels, 3, stride, groups=channels) + _conv(channels, out, 1)
            channels = out
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.features(image)).flatten(1))


def mobilenet_v1(classes: int = 10, width: float = 0.5) -> nn.Module:
    return MobileNetV1(classes, width)
