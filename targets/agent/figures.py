"""From outputs and times to the figures that are judged: the same wherever the outputs come from."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from . import metrics

__all__ = ["accuracy", "agreement", "count", "from_bytes", "load", "percentiles", "save", "to_bytes"]

# name, share of the runs, and how many runs support it: ten lie beyond it
_PERCENTILES = (("p50", 0.5, 20), ("p90", 0.9, 100), ("p95", 0.95, 200), ("p99", 0.99, 1000))


def load(path: Any) -> Any:
    """All arrays of an .npz file by name; never unpickles."""
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def save(path: Any, arrays: Any) -> None:
    """The counterpart of ``load``."""
    np.savez(path, **arrays)


def to_bytes(array: Any, dtype: Any) -> Any:
    """An array as little-endian bytes of this dtype."""
    return np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<")).tobytes()


def from_bytes(data: Any, dtype: Any, shape: Any) -> Any:
    """Little-endian bytes -> an array; ValueError when they are too few or too many."""
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)


def count(outputs: Any) -> Any:
    """Evaluation samples behind ``outputs``: arrays "evaluation.OUTPUT" and "golden.OUTPUT" by artifact."""
    for arrays in outputs.values():
        for key, array in arrays.items():
            if key.startswith("evaluation."):
                return len(array)
    return 0


def percentiles(times: Any) -> Any:
    """Only those that the number of runs supports."""
    ordered = sorted(times)
    found: Any = {"n": len(ordered), "min": ordered[0]}
    for name, share, need in _PERCENTILES:
        if len(ordered) >= need:
            found[name] = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
    return found


def accuracy(manifest: Any, folder: Any, figures: Any, outputs: Any) -> None:
    """metric, drop, and how the golden outputs compare, into ``figures``."""
    first = manifest["outputs"][0]["name"]
    golden = load(os.path.join(str(folder), manifest["golden"]["path"]))
    evaluation = manifest.get("evaluation")
    labels = None
    if evaluation:
        labels = load(os.path.join(str(folder), evaluation["path"])).get("labels")
    for name, arrays in outputs.items():
        expected = golden.get("expected.%s.%s" % (name, first))
        scale = None if name == "float" else manifest["outputs"][0].get("scale")
        if expected is not None:
            figures[name]["golden"] = metrics.agreement(expected, arrays["golden." + first][: len(expected)], scale)
        result = arrays.get("evaluation." + first)
        if result is None or labels is None:
            continue
        metric = evaluation["metric"]
        if metric not in metrics.METRICS:
            figures[name]["errors"].append("metric %r is not known to this checker" % metric)
            continue
        figures[name]["metric"] = metrics.score(metric, result, labels[: len(result)])
    reference = next((a["name"] for a in manifest["artifacts"] if a["role"] == "reference"), None)
    base = figures.get(reference, {}).get("metric")
    for entry in figures.values():
        if base is not None and entry.get("metric") is not None:
            sign = 1.0 if metrics.higher_is_better(evaluation["metric"]) else -1.0
            entry["drop"] = sign * (base - entry["metric"])


def agreement(manifest: Any, pair: Any) -> Any:
    """Of two candidates' outputs, on the evaluation samples where there are some, else on the golden ones."""
    if len(pair) < 2 or any(arrays is None for arrays in pair):
        return None
    output = manifest["outputs"][0]
    kind = "evaluation." if "evaluation." + output["name"] in pair[0] else "golden."
    return metrics.agreement(pair[0][kind + output["name"]], pair[1][kind + output["name"]], output.get("scale"))
