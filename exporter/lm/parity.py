"""A graph against torch: the same tokens in one piece, in chunks, one by one, in a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from exporter.errors import LoadError, first_line
from exporter.lm.blueprint import Blueprint
from exporter.lm.source import Decoder
from exporter.loading import Parity
from exporter.reference import session

__all__ = ["Run", "compare_dynamic", "dynamic_feeds", "file_runner", "runner"]

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]

_TOKENS = 24
_BATCH = 3
_CHUNKS = (1, 7, 1, 1, 9, 5)  # adds up to _TOKENS; starts with a prompt of one token
_LIMIT = 1e-3  # of the largest logit: float32 in another order of summation stays far below, a wrong graph far above


def dynamic_feeds(plan: Blueprint, tokens: Array, past: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Inputs of the dynamic graph for i64 tokens [batch, sequence] behind ``past``: present.* of an earlier run."""
    batch, count = tokens.shape
    empty = np.zeros((batch, plan.kv_heads, 0, plan.heads.padded), np.float32)
    found: dict[str, Array] = {"input_ids": np.asarray(tokens, np.int64)}
    before = 0
    for index in range(len(plan.layers)):
        for part in ("key", "value"):
            array = empty if past is None else past[f"present.{index}.{part}"]
            found[f"past_key_values.{index}.{part}"] = array
            before = array.shape[2]
    found["attention_mask"] = np.ones((batch, before + count), np.int64)
    if plan.family.positions:
        found["position_ids"] = np.broadcast_to(np.arange(before, before + count), (batch, count)).astype(np.int64)
    return found


def compare_dynamic(decoder: Decoder, run: Run, seed: int = 0) -> Parity:
    """Largest difference to torch's logits. Raises LoadError where it is not float noise."""
    tokens, expected = _case(decoder, seed)
    plan = decoder.plan
    worst = _worst({"a whole batch": run(dynamic_feeds(plan, tokens))["logits"]}, expected)
    past, parts, start = None, [], 0
    for count in _fitting(_CHUNKS, tokens.shape[1]):
        past = run(dynamic_feeds(plan, tokens[:1, start : start + count], past))
        parts.append(past["logits"])
        start += count
    worst = max(worst, _worst({"chunks": np.concatenate(parts, axis=1)}, expected[:1]))
    return _judged(worst, expected)


def _case(decoder: Decoder, seed: int) -> tuple[Array, Array]:
    count = min(_TOKENS, decoder.plan.context)
    tokens = np.random.default_rng(seed).integers(0, decoder.plan.vocabulary, (_BATCH, count))
    return tokens, decoder.reference.logits(tokens)


def _fitting(chunks: tuple[int, ...], count: int) -> list[int]:
    found = []
    for chunk in chunks:
        if count > 0:
            found.append(min(chunk, count))
            count -= chunk
    return found


def _worst(found: Mapping[str, Array], expected: Array) -> float:
    ((name, logits),) = found.items()
    if logits.shape != expected.shape:
        raise LoadError(f"the graph gives logits {logits.shape} for {name}, torch {expected.shape}")
    return float(np.abs(logits - expected).max())


def _judged(worst: float, expected: Array) -> Parity:
    scale = float(np.abs(expected).max())
    if not worst <= _LIMIT * scale:
        found = f"the exported graph differs from torch: logits by up to {worst:.3g}, the largest is {scale:.3g}"
        raise LoadError(found, "this architecture is not exported rightly: please report it with its config.json")
    return Parity(worst, worst / max(scale, 1e-30))


def file_runner(path: Path) -> Run:
    """A graph in an ONNX file, its weights mapped and not packed anew: as little memory as can be."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        opened = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own C++ types
        raise LoadError(f"ONNX Runtime does not load {path.name}: {first_line(error)}") from error
    names = [o.name for o in opened.get_outputs()]
    return lambda feeds: dict(zip(names, opened.run(None, dict(feeds)), strict=True))


def runner(model: ir.Model, *, threads: int = 0) -> Run:
    """A graph in ONNX Runtime; ``threads`` 0 lets it choose."""
    opened = session(model, threads=threads)
    names = [o.name for o in opened.get_outputs()]
    return lambda feeds: dict(zip(names, opened.run(None, dict(feeds)), strict=True))
