"""Temporal convolutional network (Bai et al. 2018): dilated causal Conv1d with residuals."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["tcn"]


class Block(nn.Module):
    def __init__(self, channels: int, out: int, dilation: int) -> None:
        super().__init__()
        self.past = 2 * dilation
        self.conv1 = nn.Conv1d(channels, out, 3, dilation=dilation, bias=False)
        self.norm1 = nn.BatchNorm1d(out)
        self.conv2 = nn.Conv1d(out, out, 3, dilation=dilation)
        self.skip = nn.Conv1d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(F.pad(x, (self.past, 0)))))
        return F.relu(self.skip(x) + self.conv2(F.pad(y, (self.past, 0))))


class TCN(nn.Module):
    """signal [N,channels,time] -> logits [N,classes], from the last step in time."""

    def __init__(self, channels: int, classes: int, width: int, levels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(width if i else channels, width, 2**i) for i in range(levels)))
        self.head = nn.Linear(width, classes)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(signal)[:, :, -1])


def tcn(channels: int = 8, classes: int = 10, width: int = 32, levels: int = 4) -> nn.Module:
    return TCN(channels, classes, width, levels)
