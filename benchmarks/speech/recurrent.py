"""A recurrent keyword net over the frames of log-mel spectrograms."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

__all__ = ["Recurrent", "gru", "lstm"]


class Recurrent(nn.Module):
    """[N,1,mels,frames] -> [N,classes] logits: one layer over the frames, its mean over time decides."""

    def __init__(self, kind: type[nn.RNNBase], mels: int, width: int, classes: int) -> None:
        super().__init__()
        self.body = kind(mels, width, batch_first=True)  # type: ignore[arg-type]
        self.head = nn.Linear(width, classes)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        states, _ = self.body(wave.squeeze(1).transpose(1, 2))
        return cast(torch.Tensor, self.head(states.mean(1)))


def lstm() -> nn.Module:
    """96 units, fresh weights."""
    return Recurrent(nn.LSTM, 40, 96, 10)


def gru() -> nn.Module:
    """96 units, fresh weights."""
    return Recurrent(nn.GRU, 40, 96, 10)
