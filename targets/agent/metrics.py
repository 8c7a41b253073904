"""What is measured on outputs. Percent where a share is meant; METRICS tells which way is better."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["METRICS", "agreement", "higher_is_better", "score"]


def top1(outputs: Any, labels: Any) -> Any:
    """Share of samples whose largest output is the label, percent."""
    return float((_classes(outputs).argmax(1) == labels).mean() * 100)


def top5(outputs: Any, labels: Any) -> Any:
    """Share of samples whose label is among the five largest outputs, percent."""
    best = np.argsort(-_classes(outputs), axis=1, kind="stable")[:, :5]
    return float((best == np.asarray(labels)[:, None]).any(1).mean() * 100)


def cosine(outputs: Any, labels: Any) -> Any:
    """Mean cosine between each output and its label vector, percent."""
    a, b = _rows(outputs), _rows(labels)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / np.maximum(norms, 1e-12)).mean() * 100)


def mse(outputs: Any, labels: Any) -> Any:
    """Mean squared difference to the label."""
    return float(((_rows(outputs) - _rows(labels)) ** 2).mean())


def spearman(outputs: Any, labels: Any) -> Any:
    """Spearman's rank correlation of one output a sample with its label, percent.

    Outputs of more than one column are embeddings of alternating pairs (row 0 with row 1, 2 with 3, …): their cosine
    is the score, and the labels are those of the pairs (or given twice).
    """
    rows = _rows(outputs)
    labels = np.asarray(labels, np.float64).reshape(-1)
    if rows.shape[1] > 1:
        a, b = rows[0::2], rows[1::2]
        scores = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
        labels = labels[0::2] if len(labels) == len(rows) else labels
    else:
        scores = rows[:, 0]
    x, y = _ranks(scores), _ranks(labels)
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / max(np.sqrt((x * x).sum() * (y * y).sum()), 1e-12) * 100)


# name -> (function of outputs and labels, larger is better)
METRICS = {
    "top1": (top1, True),
    "top5": (top5, True),
    "cosine": (cosine, True),
    "mse": (mse, False),
    "spearman": (spearman, True),
}


def higher_is_better(name: Any) -> Any:
    """Whether more of this metric is better; a user's own metric counts as such."""
    return METRICS[name][1] if name in METRICS else True


def score(name: Any, outputs: Any, labels: Any) -> Any:
    """The metric ``name`` of the first output."""
    return METRICS[name][0](outputs, np.asarray(labels))


def agreement(first: Any, second: Any, scale: Any = None) -> Any:
    """Two outputs for the same samples: {"top1": share, "equal": share of values, "max_lsb": n or None}.

    Values are compared in steps of ``scale``; without one, equal means within 1e-4 of the largest value.
    """
    a, b = _rows(first), _rows(second)
    same = float((a.argmax(1) == b.argmax(1)).mean()) if a.shape[1] > 1 else None
    if scale:
        steps = np.abs(np.rint(a / scale) - np.rint(b / scale))
        return {"top1": same, "equal": float((steps == 0).mean()), "max_lsb": int(steps.max(initial=0))}
    close = np.abs(a - b) <= 1e-4 * max(float(np.abs(a).max(initial=0)), 1e-12)
    return {"top1": same, "equal": float(close.mean()), "max_lsb": None}


def _classes(outputs: Any) -> Any:
    return np.asarray(outputs).reshape(len(outputs), -1)


def _rows(values: Any) -> Any:
    array = np.asarray(values, np.float64)
    return array.reshape(len(array), -1)


def _ranks(values: Any) -> Any:
    """Average ranks, ties shared."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]
