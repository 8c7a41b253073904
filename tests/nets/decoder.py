"""Decoder after Llama (Touvron et al. 2023): grouped queries, rotary positions, RMS norms, a gated inner layer."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["Decoder", "decoder"]


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [N,heads,T,size], tables [T,size]: halves are turned against each other."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Block(nn.Module):
    def __init__(self, width: int, heads: int, key_heads: int) -> None:
        super().__init__()
        self.heads, self.key_heads, self.size = heads, key_heads, width // heads
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.query, self.mix = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Linear(width, key_heads * self.size, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        y = self.norm1(x)
        q = self.query(y).view(n, t, self.heads, self.size).transpose(1, 2)
        k, v = (part(y).view(n, t, self.key_heads, self.size).transpose(1, 2) for part in (self.key, self.value))
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.heads != self.key_heads)
        x = x + self.mix(mixed.transpose(1, 2).reshape(n, t, c))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    """tokens int64 [N,T] -> logits [N,T,vocabulary]; the embedding is the output matrix, too."""

    def __init__(self, vocabulary: int, layers: int, width: int, heads: int, key_heads: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads, key_heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        angles = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, width // heads, 2) / (width // heads)))
        self.register_buffer("cos", torch.cat([angles, angles], -1).cos())
        self.register_buffer("sin", torch.cat([angles, angles], -1).sin())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.norm(x) @ self.embedding.weight.T


def decoder(layers: int = 2, heads: int = 4, key_heads: int = 2, length: int = 16) -> Decoder:
    return Decoder(256, layers, 64, heads, key_heads, length)
