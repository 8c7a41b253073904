"""Quantization-aware training and distillation on the graph that ships (see network.py and training.py)."""

from __future__ import annotations

from exporter.finetune.network import Network, Trained
from exporter.finetune.training import Epoch, History, finetune

__all__ = ["Epoch", "History", "Network", "Trained", "finetune"]
