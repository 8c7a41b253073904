"""Recurrent keyword spotters (Zhang et al. 2017, Hello Edge): LSTM or GRU over frames, the last state decides."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

__all__ = ["keyword"]


class Keyword(nn.Module):
    """frames [N,time,features] -> logits [N,classes]."""

    def __init__(self, kind: Literal["lstm", "gru"], features: int, width: int, classes: int) -> None:
        super().__init__()
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[kind]
        self.body = layer(features, width, batch_first=True)
        self.wide, self.head = nn.Linear(width, 64), nn.Linear(64, classes)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.head(self.wide(self.body(frames)[0][:, -1]).relu())


def keyword(kind: Literal["lstm", "gru"] = "lstm", features: int = 20, width: int = 48, classes: int = 10) -> nn.Module:
    return Keyword(kind, features, width, classes)
