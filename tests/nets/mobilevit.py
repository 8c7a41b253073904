"""MobileViT-style block (Mehta and Rastegari 2021): convolutions, attention over unfolded patches, fold, fuse."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tests.nets.vit import Block

__all__ = ["mobilevit"]


class MobileViTBlock(nn.Module):
    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.local = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.SiLU(),
            nn.Conv2d(channels, width, 1),
        )  # fmt: skip
        self.blocks = nn.Sequential(*(Block(width, 4, 2 * width) for _ in range(2)))
        self.norm = nn.LayerNorm(width)
        self.back = nn.Conv2d(width, channels, 1)
        self.fuse = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.local(x)
        n, c, h, w = y.shape
        p, rows, columns = self.patch, h // self.patch, w // self.patch
        y = y.reshape(n * c * rows, p, columns, p).transpose(1, 2).reshape(n, c, rows * columns, p * p)
        y = y.transpose(1, 3).reshape(n * p * p, rows * columns, c)
        y = self.norm(self.blocks(y)).reshape(n, p * p, rows * columns, c).transpose(1, 3)
        y = y.reshape(n * c * rows, columns, p, p).transpose(1, 2).reshape(n, c, h, w)
        return self.fuse(torch.cat((x, self.back(y)), 1))


class MobileViT(nn.Module):
    """image [N,3,32,32] -> logits [N,classes]."""

    def __init__(self, classes: int, channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.SiLU())
        self.block = MobileViTBlock(channels, width, 2)
        self.head = nn.Linear(channels, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(F.silu(self.block(self.stem(image))).mean((2, 3)))


def mobilevit(classes: int = 10, channels: int = 24, width: int = 48) -> nn.Module:
    return MobileViT(classes, channels, width)
