"""The next token from a row of logits."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["choose", "log_softmax"]


def log_softmax(logits: Any) -> Any:
    """f64, along the last axis."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def choose(logits: Any, rng: Any, temperature: Any = 1.0, top_k: Any = 0, top_p: Any = 1.0) -> Any:
    """A token id.

    rng          numpy.random.Generator
    temperature  divides the logits; 0: the likeliest token
    top_k        only among the k likeliest; 0: all
    top_p        only among the likeliest that together have this probability (Holtzman et al. 2020)
    """
    if temperature <= 0:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")
    if top_k:
        order = order[:top_k]
    shares = np.exp(log_softmax(logits[order] / temperature))
    if top_p < 1:
        kept = int(np.searchsorted(np.cumsum(shares), top_p)) + 1
        order, shares = order[:kept], shares[:kept]
    return int(rng.choice(order, p=shares / shares.sum()))
