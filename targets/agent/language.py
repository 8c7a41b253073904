"""What is measured of a language model: perplexity on the user's text, likeness to the float model, speed, memory."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from .decoders import open_decoder
from .manifest import read
from .sampling import log_softmax
from .worker import memory_of

__all__ = ["quality", "speed"]

_PROMPT = 64  # tokens whose time counts as that of the first token
_WRITTEN = 64  # tokens of one timed run of decoding
_RUNS = 7
_LN2 = 0.6931471805599453


def quality(folder: Any, options: Any, say: Any) -> Any:
    """Figures by artifact on the evaluation windows, each token predicted from those before it, through the cache.

    options  names (of the artifacts; the reference among them, or nothing is compared), threads, samples (windows at
             most, 0: all)
    perplexity      e to the mean loss, nats a token
    bits_per_byte   of the text that the predicted tokens stand for
    divergence      mean KL divergence of the float model's distribution from the artifact's, nats
    agreement       share of tokens at which the float model's likeliest is the artifact's
    """
    manifest = read(folder)
    language = manifest["language_model"]
    with np.load(os.path.join(folder, manifest["evaluation"]["path"]), allow_pickle=False) as archive:
        windows, sizes = archive["input.tokens"], archive["bytes"]
    windows = windows[: options.get("samples") or len(windows)]
    chosen = [a for a in manifest["artifacts"] if a["name"] in options["names"]]
    decoders = {
        a["name"]: open_decoder(a, language, os.path.join(folder, a["path"]), options["threads"]) for a in chosen
    }
    reference = next((a["name"] for a in chosen if a["role"] == "reference"), None)
    sums: Any = {name: np.zeros(3) for name in decoders}
    tops: Any = []
    for done, tokens in enumerate(windows):
        say({"progress": "text", "done": done, "total": len(windows)})
        found = {name: _predictions(decoder, tokens) for name, decoder in decoders.items()}
        for name, logs in found.items():
            sums[name] += _compared(logs, found.get(reference), tokens[1:])
        tops.append({name: logs.argmax(axis=-1) for name, logs in found.items()})
    count, text = windows.shape[1] - 1, int(sizes[: len(windows)].sum())
    figures = {name: _figures(sums[name], count * len(windows), text, reference is not None) for name in decoders}
    return {"artifacts": figures, "agreement": _agreement(tops, chosen), "windows": len(windows)}


def _predictions(decoder: Any, tokens: Any) -> Any:
    """Log probabilities f64 [tokens - 1, vocabulary]: after each token but the last."""
    decoder.reset()
    return log_softmax(decoder.prefill(tokens[:-1]))


def _compared(logs: Any, reference: Any, targets: Any) -> Any:
    """Sums over one window: loss, divergence from the reference, agreement with it."""
    loss = -logs[np.arange(len(targets)), targets].sum()
    if reference is None:
        return np.array([loss, 0.0, 0.0])
    divergence = (np.exp(reference) * (reference - logs)).sum()
    return np.array([loss, divergence, (reference.argmax(axis=-1) == logs.argmax(axis=-1)).sum()])


def _figures(sums: Any, count: Any, text: Any, compared: Any) -> Any:
    loss, divergence, same = (float(s) for s in sums)
    found = {"perplexity": float(np.exp(loss / count)), "bits_per_byte": loss / _LN2 / text}
    if compared:
        found.update(divergence=max(divergence, 0.0) / count, agreement=same / count)
    return found


def _agreement(tops: Any, chosen: Any) -> Any:
    """Share of tokens at which both candidates say the same."""
    pair = [a["name"] for a in chosen if a["role"] == "candidate"]
    if len(pair) < 2 or not tops:
        return None
    return {"top1": float(np.mean([(t[pair[0]] == t[pair[1]]).mean() for t in tops]))}


def speed(folder: Any, options: Any, say: Any) -> Any:
    """Figures by artifact, all in turn so that drift hits them alike; each with the memory of its own loading.

    options  names, threads, runs (7)
    first_token_ms      median time from a prompt of ``prompt_tokens`` to the first token, the model loaded
    prefill_rate        prompt tokens a second        decode_rate  written tokens a second (medians)
    """
    manifest = read(folder)
    language = manifest["language_model"]
    with np.load(os.path.join(folder, manifest["golden"]["path"]), allow_pickle=False) as archive:
        prompt = archive["input.tokens"].reshape(-1)
    written = max(1, min(_WRITTEN, language["context"] // 2))
    prompt = np.resize(prompt, min(_PROMPT, language["context"] - written))
    figures: Any = {}
    decoders: Any = {}
    for artifact in manifest["artifacts"]:
        if artifact["name"] in options["names"]:
            before = memory_of("VmRSS")
            start = time.perf_counter()
            decoder = open_decoder(artifact, language, os.path.join(folder, artifact["path"]), options["threads"])
            figures[artifact["name"]] = {"load_ms": (time.perf_counter() - start) * 1e3}
            decoders[artifact["name"]] = decoder
            _timed(decoder, prompt, written)  # first touch of every page, kernels chosen
            peak = memory_of("VmHWM")
            if peak is not None and len(options["names"]) == 1:
                figures[artifact["name"]].update(peak_bytes=peak, model_peak_bytes=max(0, peak - before))
    times: Any = {name: [] for name in decoders}
    runs = options.get("runs") or _RUNS
    for done in range(runs):
        say({"progress": "speed", "done": done, "total": runs})
        for name, decoder in decoders.items():
            times[name].append(_timed(decoder, prompt, written))
    for name, pairs in times.items():
        first, rest = (float(np.median([p[i] for p in pairs])) for i in (0, 1))
        figures[name].update(
            first_token_ms=first * 1e3,
            prompt_tokens=len(prompt),
            prefill_rate=len(prompt) / first,
            decode_rate=written / rest,
        )
    return figures


def _timed(decoder: Any, prompt: Any, written: Any) -> Any:
    """Seconds until the first token, and for ``written`` more."""
    decoder.reset()
    start = time.perf_counter()
    token = int(decoder.read(prompt).argmax())
    first = time.perf_counter()
    for _ in range(written):
        token = int(decoder.step(token).argmax())
    return first - start, time.perf_counter() - first
