"""Text from a bundle, token by token, on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporter import bundle as bundles
from exporter.errors import BundleError, DataError, MissingError
from exporter.lm.text import open_tokenizer, pieces
from targets.agent.decoders import ContextFull, open_decoder
from targets.agent.runtimes import MissingRuntime
from targets.agent.sampling import choose

__all__ = ["Sampling", "Writer", "open_writer"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen: see targets.agent.sampling.choose. temperature 0 takes the likeliest."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


class Writer:
    """An open artifact of a language model's bundle.

    prompt_tokens, written, first_seconds, seconds   of the last ``write``; seconds without the first token
    """

    def __init__(self, bundle: bundles.Bundle, artifact: str, decoder: Any, tokenizer: Any) -> None:
        self.bundle, self.artifact = bundle, artifact
        self._decoder, self._tokenizer = decoder, tokenizer
        self._end = set(bundle.manifest["language_model"]["end"])
        self.prompt_tokens = self.written = 0
        self.first_seconds = self.seconds = 0.0

    @property
    def rate(self) -> float | None:
        """Tokens a second after the first one; None before there are any."""
        return (self.written - 1) / self.seconds if self.seconds else None

    def write(self, prompt: str, most: int, sampling: Sampling) -> Iterator[str]:
        """The text behind ``prompt`` in pieces, until an end token, ``most`` tokens, or the end of the context.

        Raises DataError for a prompt without tokens or beyond the context.
        """
        ids = self._tokenizer.encode(prompt).ids
        if not ids:
            raise DataError("the prompt has no tokens", "write at least one character")
        self.prompt_tokens, self.written, self.seconds = len(ids), 0, 0.0
        start = time.perf_counter()
        self._decoder.reset()
        try:
            logits = self._decoder.read(ids)
        except ContextFull as error:
            raise DataError(f"prompt: {error}") from error
        self.first_seconds = time.perf_counter() - start
        return pieces(self._tokenizer, self._tokens(logits, most, sampling))

    def _tokens(self, logits: Any, most: int, sampling: Sampling) -> Iterator[int]:
        rng = np.random.default_rng(sampling.seed)
        while True:
            token = choose(logits, rng, sampling.temperature, sampling.top_k, sampling.top_p)
            if token in self._end:
                return
            self.written += 1
            yield token
            if self.written >= most or self._decoder.length >= self._decoder.capacity:
                return
            start = time.perf_counter()
            logits = self._decoder.step(token)
            self.seconds += time.perf_counter() - start


def open_writer(folder: Path, artifact: str | None = None, threads: int = 1) -> Writer:
    """``artifact``: a name in the bundle; None takes the first candidate whose runtime is installed.

    Raises BundleError for a bundle that is damaged or holds no language model, MissingError without a runtime.
    """
    bundle = bundles.verify(folder)
    language = bundle.manifest.get("language_model")
    if language is None:
        raise BundleError(f"{folder} holds no language model", "kbit inspect shows what it holds")
    tokenizer = open_tokenizer(folder / (language.get("tokenizer") or "tokenizer.json"), folder)
    entries = {a["name"]: a for a in bundle.manifest["artifacts"]}
    if artifact is not None and artifact not in entries:
        raise BundleError(f"{folder} has no artifact {artifact!r}", f"it has {', '.join(entries)}")
    names = [artifact] if artifact else [n for n, a in entries.items() if a["role"] == "candidate"]
    missing: MissingRuntime | None = None
    for name in names:
        try:
            decoder = open_decoder(entries[name], language, folder / entries[name]["path"], threads)
            return Writer(bundle, name, decoder, tokenizer)
        except MissingRuntime as error:
            missing = error
    raise MissingError(str(missing) if missing else f"{folder} has no artifact to run")
