"""ShuffleNetV2 (Ma et al. 2018): halves of the channels, depthwise convolutions, channel shuffle."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["shufflenet"]


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), *([nn.ReLU()] if act else [])]


class Unit(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        half, self.stride = out // 2, stride
        source = channels if stride > 1 else half
        self.left = nn.Sequential(
            *_conv(channels, channels, 3, stride, groups=channels, act=False), *_conv(channels, half, 1)
        )
        depthwise = _conv(half, half, 3, stride, groups=half, act=False)
        self.right = nn.Sequential(*_conv(source, half, 1), *depthwise, *_conv(half, half, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stride > 1:
            x = torch.cat([self.left(x), self.right(x)], 1)
        else:
            kept, changed = x.chunk(2, 1)
            x = torch.cat([kept, self.right(changed)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ShuffleNet(nn.Module):
    """image [N,3,32,32] -> logits [N,classes]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        units = [Unit(24, 48, 2), *(Unit(48, 48, 1) for _ in range(2)), Unit(48, 96, 2), Unit(96, 96, 1)]
        self.features = nn.Sequential(*_conv(3, 24, 3), *units, *_conv(96, 128, 1))
        self.head = nn.Linear(128, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).mean((2, 3)))


def shufflenet(classes: int = 10) -> nn.Module:
    return ShuffleNet(classes)
