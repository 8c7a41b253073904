"""YOLO-style backbone and neck (Jocher et al.): SiLU, C2f with split, SPPF, upsampling and concatenation, one head."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["yolo"]


class Conv(nn.Module):
    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(self.norm(self.conv(x)))


class C2f(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.half = out // 2
        self.first, self.last = Conv(channels, out), Conv(3 * self.half, out)
        self.one, self.two = Conv(self.half, self.half, 3), Conv(self.half, self.half, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, changed = self.first(x).split((self.half, self.half), 1)
        return self.last(torch.cat((kept, changed, changed + self.two(self.one(changed))), 1))


class SPPF(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = Conv(channels, channels // 2), Conv(2 * channels, channels)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        one = self.pool(x)
        two = self.pool(one)
        return self.last(torch.cat((x, one, two, self.pool(two)), 1))


class Yolo(nn.Module):
    """image [N,3,64,64] -> [N,4+classes,cells] of both strides, scores after the sigmoid."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.early = nn.Sequential(Conv(3, width, 3, 2), Conv(width, 2 * width, 3, 2), C2f(2 * width, 2 * width))
        self.late = nn.Sequential(Conv(2 * width, 4 * width, 3, 2), C2f(4 * width, 4 * width), SPPF(4 * width))
        self.join, self.down = C2f(6 * width, 2 * width), Conv(2 * width, 2 * width, 3, 2)
        self.bottom = C2f(6 * width, 4 * width)
        self.heads = nn.ModuleList(nn.Conv2d(w, 4 + classes, 1) for w in (2 * width, 4 * width))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        early = self.early(image)
        late = self.late(early)
        top = self.join(torch.cat((F.interpolate(late, scale_factor=2.0, mode="nearest"), early), 1))
        bottom = self.bottom(torch.cat((self.down(top), late), 1))
        found = torch.cat([head(x).flatten(2) for head, x in zip(self.heads, (top, bottom), strict=True)], 2)
        boxes, scores = found.split((4, found.shape[1] - 4), 1)
        return torch.cat((boxes, scores.sigmoid()), 1)


def yolo(classes: int = 6, width: int = 16) -> nn.Module:
    return Yolo(classes, width)
