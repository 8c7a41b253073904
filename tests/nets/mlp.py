"""Multilayer perceptron with batch norm on rank-2 tensors."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["mlp"]


class MLP(nn.Module):
    """features [N,inputs] -> logits [N,classes]."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features)


def mlp(inputs: int = 64, hidden: int = 128, classes: int = 10) -> nn.Module:
    return MLP(inputs, hidden, classes)
