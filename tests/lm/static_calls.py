"""Graphs of fixed lengths against torch: a text in pieces, the cache kept outside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from exporter.lm.parity import Run
from exporter.lm.source import Decoder

__all__ = ["relative_difference"]

_PIECES = (1, 7, 1, 1, 9, 5)  # starts with a prompt of one token


def relative_difference(decoder: Decoder, runs: Mapping[int, Run]) -> float:
    """Of the logits, over the largest of torch's. ``runs`` by tokens of a call."""
    plan, rng = decoder.plan, np.random.default_rng(0)
    tokens = rng.integers(0, plan.vocabulary, (1, sum(_PIECES)))
    size = (1, plan.kv_heads, plan.context, plan.heads.padded)
    names = [f"kv_cache_{letter}_{i}" for i in range(len(plan.layers)) for letter in "kv"]
    caches = {name: rng.standard_normal(size, np.float32) for name in names}  # what lies beyond the past matters not
    parts, start = [], 0
    for wish in _PIECES:
        length = min((n for n in runs if n >= wish), default=max(runs))
        count = min(wish, length)
        padded = np.zeros((1, length), np.int32)
        padded[0, :count] = tokens[0, start : start + count]
        places = np.minimum(np.arange(start, start + length), plan.context - 1).astype(np.int32)
        result = runs[length]({"tokens": padded, "input_pos": places, **caches})
        for name, cache in caches.items():
            cache[:, :, start : start + count] = result[name.replace("cache", "slice")][:, :, :count]
        parts.append(result["logits"][:, :count])
        start += count
    expected = decoder.reference.logits(tokens)[:, :start]
    found = np.concatenate(parts, axis=1)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
