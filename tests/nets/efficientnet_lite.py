"""EfficientNet-Lite (Tan and Le 2019; no squeeze-and-excitation, ReLU6): MBConv with 3x3 and 5x5 kernels."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["efficientnet_lite"]

# expansion, output channels, repeats, first stride, kernel
STAGES = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 2, 1, 3), (6, 112, 1, 1, 5))


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out, eps=1e-3), *([nn.ReLU6()] if act else [])]


class MBConv(nn.Module):
    def __init__(self, channels: int, out: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        inner = channels * expansion
        wider = _conv(channels, inner, 1) if expansion > 1 else []
        depthwise = _conv(inner, inner, kernel, stride, groups=inner)
        self.body = nn.Sequential(*wider, *depthwise, *_conv(inner, out, 1, act=False))
        self.residual = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class EfficientNetLite(nn.Module):
    """image [N,3,64,64] -> logits [N,classes]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers, channels = _conv(3, 32, 3, 2), 32
        for expansion, out, repeats, stride, kernel in STAGES:
            for i in range(repeats):
                layers.append(MBConv(channels, out, expansion, stride if i == 0 else 1, kernel))
                channels = out
        self.features = nn.Sequential(*layers, *_conv(channels, 320, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(320, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image))


def efficientnet_lite(classes: int = 10) -> nn.Module:
    return EfficientNetLite(classes)
