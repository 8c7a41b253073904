"""DeepLabV3-style segmentation (Chen et al. 2017): dilated convolutions, image pooling, bilinear resize."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["deeplab"]


def _conv(channels: int, out: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride, dilation * (kernel // 2), dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


class DeepLab(nn.Module):
    """image [N,3,48,48] -> class scores [N,classes,48,48]."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(_conv(3, width, 3, 2), _conv(width, 2 * width, 3, 2), _conv(2 * width, width, 3))
        self.branches = nn.ModuleList([_conv(width, width, 1), *(_conv(width, width, 3, 1, d) for d in (2, 4, 6))])
        self.image = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1), nn.ReLU())
        self.project, self.head = _conv(5 * width, width, 1), nn.Conv2d(width, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.backbone(image)
        pooled = F.interpolate(self.image(x), size=x.shape[2:], mode="bilinear", align_corners=False)
        x = self.project(torch.cat([*(branch(x) for branch in self.branches), pooled], 1))
        return F.interpolate(self.head(x), size=image.shape[2:], mode="bilinear", align_corners=False)


def deeplab(classes: int = 5, width: int = 16) -> nn.Module:
    return DeepLab(classes, width)
