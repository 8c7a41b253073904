"""Conformer-style block (Gulati et al. 2020): half-step feed-forward, attention, gated depthwise convolution."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["conformer"]


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = (
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.narrow(F.silu(self.wide(self.norm(x))))


class Convolution(nn.Module):
    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm, self.gate = nn.LayerNorm(width), nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.batch, self.out = nn.BatchNorm1d(width), nn.Conv1d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.glu(self.gate(self.norm(x).transpose(1, 2)), 1)
        return self.out(F.silu(self.batch(self.depthwise(y)))).transpose(1, 2)


class Conformer(nn.Module):
    """frames [N,time,features] -> logits [N,classes]."""

    def __init__(self, features: int, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.first, self.before, self.after = nn.Linear(features, width), FeedForward(width), FeedForward(width)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.convolution, self.last = Convolution(width, 7), nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = self.first(frames)
        x = x + 0.5 * self.before(x)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.convolution(x)
        return self.head(self.last(x + 0.5 * self.after(x)).mean(1))


def conformer(features: int = 20, width: int = 48, heads: int = 4, classes: int = 10) -> nn.Module:
    return Conformer(features, width, heads, classes)
