"""MobileNetV2 (Sandler et al. 2018, table 2) at CIFAR size: inverted residuals, ReLU6."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["mobilenet_v2"]

# expansion, output channels, repeats, first stride
STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 2, 2), (6, 96, 2, 1), (6, 160, 1, 2))


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out)]


class Inverted(nn.Module):
    def __init__(self, channels: int, out: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = channels * expansion
        wider = [*_conv(channels, inner, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = [*_conv(inner, inner, 3, stride, groups=inner), nn.ReLU6()]
        self.body = nn.Sequential(*wider, *depthwise, *_conv(inner, out, 1))
        self.residual = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class MobileNetV2(nn.Module):
    """image [N,3,32,32] -> logits [N,classes]; ``stem``: stride of the first convolution."""

    def __init__(self, classes: int, stem: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv(3, 32, 3, stem), nn.ReLU6()]
        channels = 32
        for expansion, out, repeats, stride in STAGES:
            for i in range(repeats):
                layers.append(Inverted(channels, out, expansion, stride if i == 0 else 1))
                channels = out
        self.features = nn.Sequential(*layers, *_conv(channels, 320, 1), nn.ReLU6())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(320, classes))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).mean([2, 3]))


def mobilenet_v2(classes: int = 10, stem: int = 1) -> nn.Module:
    return MobileNetV2(classes, stem)
