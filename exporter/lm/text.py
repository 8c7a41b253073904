"""Text as windows of tokens, and tokens as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.errors import DataError, MissingError, first_line

__all__ = ["Windows", "open_tokenizer", "pieces", "windows"]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """tokens i32 [windows, length]; bytes i64 [windows]: of the text that all tokens but the first stand for."""

    tokens: npt.NDArray[np.int32]
    bytes: npt.NDArray[np.int64]


def open_tokenizer(path: Path | None, where: Path) -> Any:
    """The tokenizer in a tokenizer.json. Raises DataError where there is none, or it cannot be read."""
    if path is None or not path.is_file():
        raise DataError(f"{where} has no tokenizer.json", "save the fast tokenizer with save_pretrained(folder)")
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingError("text needs the package tokenizers", "pip install 'kbit[lm]'") from error
    try:
        found = Tokenizer.from_file(str(path))
    except Exception as error:  # its own Rust error
        raise DataError(f"{path} is not a tokenizer: {first_line(error)}", "save it again") from error
    found.no_truncation()
    found.no_padding()
    return found


def windows(path: Path, tokenizer: Any, length: int, count: int, vocabulary: int) -> Windows:
    """At most ``count`` windows of ``length`` tokens, spread evenly over the text file, none overlapping.

    Raises DataError for a file that cannot be read, is no text, or is shorter than one window.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "for a language model, name a text file") from error
    except UnicodeDecodeError as error:
        what = f"{path} is not text in UTF-8 (byte {error.start})"
        raise DataError(what, "for a language model, name a text file") from error
    encoded = tokenizer.encode(text, add_special_tokens=False)
    ids = np.asarray(encoded.ids, np.int32)
    if len(ids) < length:
        raise DataError(f"{path} has {len(ids)} tokens", f"a window takes {length}: more text, or language.window")
    if ids.max() >= vocabulary:
        found = f"the tokenizer gives id {ids.max()}, the model knows {vocabulary}"
        raise DataError(found, "tokenizer and model must be of the same checkpoint")
    starts = [i * length for i in range(len(ids) // length)]
    if len(starts) > count:
        starts = [starts[i] for i in np.linspace(0, len(starts) - 1, count).astype(int)]
    ends = [encoded.offsets[s + length - 1][1] for s in starts]
    begins = [encoded.offsets[s][1] for s in starts]
    sizes = [len(text[a:b].encode()) for a, b in zip(begins, ends, strict=True)]
    return Windows(np.stack([ids[s : s + length] for s in starts]), np.asarray(sizes, np.int64))


def pieces(tokenizer: Any, tokens: Iterator[int]) -> Iterator[str]:
    """Text as it grows, token by token; a character of several tokens appears when it is whole."""
    ids: list[int] = []
    shown = ""
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids, skip_special_tokens=True)
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            continue
        yield text[len(shown) :]
        shown = text
    text = tokenizer.decode(ids, skip_special_tokens=True)
    if len(text) > len(shown):
        yield text[len(shown) :]
