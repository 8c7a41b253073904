"""WaveNet-style stack (van den Oord et al. 2016): causal dilated convolutions, tanh x sigmoid gates, skips."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["wavenet"]


class Layer(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.past = dilation
        self.both = nn.Conv1d(width, 2 * width, 2, dilation=dilation)
        self.residual, self.skip = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        signal, gate = self.both(F.pad(x, (self.past, 0))).chunk(2, 1)
        y = torch.tanh(signal) * torch.sigmoid(gate)
        return x + self.residual(y), self.skip(y)


class WaveNet(nn.Module):
    """wave [N,1,time] -> scores [N,levels,time]."""

    def __init__(self, width: int, depth: int, levels: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, width, 1)
        self.layers = nn.ModuleList(Layer(width, 2**i) for i in range(depth))
        self.one, self.two = nn.Conv1d(width, width, 1), nn.Conv1d(width, levels, 1)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        x, skips = self.first(wave), []
        for layer in self.layers:
            x, skip = layer(x)
            skips.append(skip)
        return self.two(F.relu(self.one(F.relu(torch.stack(skips).sum(0)))))


def wavenet(width: int = 16, depth: int = 5, levels: int = 16) -> nn.Module:
    return WaveNet(width, depth, levels)
