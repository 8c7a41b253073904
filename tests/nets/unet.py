"""U-Net (Ronneberger et al. 2015): transposed convolutions up, skips by concatenation."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["unet"]


def _double(channels: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (channels, out):
        layers += [nn.Conv2d(source, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """image [N,3,32,32] -> class scores [N,classes,32,32]."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.top, self.middle, self.low = _double(3, width), _double(width, 2 * width), _double(2 * width, 4 * width)
        self.up_low = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up_middle = nn.ConvTranspose2d(2 * width, width, 3, 2, padding=1, output_padding=1)
        self.join_middle, self.join_top = _double(4 * width, 2 * width), _double(2 * width, width)
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(width, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        top = self.top(image)
        middle = self.middle(self.pool(top))
        low = self.low(self.pool(middle))
        middle = self.join_middle(torch.cat((middle, self.up_low(low)), 1))
        return self.head(self.join_top(torch.cat((top, self.up_middle(middle)), 1)))


def unet(classes: int = 4, width: int = 8) -> nn.Module:
    return UNet(classes, width)
