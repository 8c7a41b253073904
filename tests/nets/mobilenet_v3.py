"""MobileNetV3-small (Howard et al. 2019, table 2) at CIFAR size: squeeze-and-excite, h-swish, h-sigmoid."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["mobilenet_v3"]

# kernel, expanded channels, output channels, squeeze-and-excite, h-swish (else ReLU), stride
STAGES = (
    (3, 16, 16, True, False, 1),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 4, 8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down, self.up = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(self.up(torch.relu(self.down(self.pool(x)))))


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out, eps=1e-3)]


class Inverted(nn.Module):
    def __init__(self, channels: int, kernel: int, inner: int, out: int, squeeze: bool, swish: bool, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            *_conv(channels, inner, 1),
            nn.Hardswish() if swish else nn.ReLU(),
            *_conv(inner, inner, kernel, stride, groups=inner),
            nn.Hardswish() if swish else nn.ReLU(),
            SqueezeExcite(inner) if squeeze else nn.Identity(),
            *_conv(inner, out, 1),
        )
        self.residual = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class MobileNetV3(nn.Module):
    """image [N,3,32,32] -> logits [N,classes]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv(3, 16, 3), nn.Hardswish()]
        channels = 16
        for kernel, inner, out, squeeze, swish, stride in STAGES:
            layers.append(Inverted(channels, kernel, inner, out, squeeze, swish, stride))
            channels = out
        self.features = nn.Sequential(*layers, *_conv(channels, 288, 1), nn.Hardswish())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Linear(288, 256), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(256, classes))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.features(image)).flatten(1))


def mobilenet_v3(classes: int = 10) -> nn.Module:
    return MobileNetV3(classes)
