"""The tokenizer of BERT checkpoints."""

from __future__ import annotations

import unicodedata
from pathlib import Path

__all__ = ["WordPiece"]


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
