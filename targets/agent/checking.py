"""The check itself: every artifact's accuracy, memory and latency here, and the verdict of the gates."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from . import children, conditions, facts, figures, language_check
from .errors import JobError
from .judge import judge
from .manifest import file_hash, verify

__all__ = ["check"]


def check(bundle: Any, options: Any, out: Any, tell: Any) -> Any:
    """The body of check.json (docs/bundle-format.md).

    options  threads (1); samples (evaluation samples at most, 0: all); runtimes (of the artifacts to run; absent: all);
             latency (true); outputs (keep them in ``out``/outputs.npz)
    """
    manifest = verify(bundle)
    wanted = options.get("runtimes")
    chosen = [a for a in manifest["artifacts"] if not wanted or a["runtime"] in wanted]
    if not any(a["role"] == "candidate" for a in chosen):
        raise JobError("the bundle has no artifact for %s" % ", ".join(wanted or ["any runtime"]))
    have = facts.packages()
    if not any(have.get(package) for a in chosen for package in facts.RUNTIMES.get(a["runtime"], ())):
        raise JobError("no runtime is installed for %s; pip install onnxruntime ai-edge-litert" % sys.executable)
    watch = conditions.Watch()
    outputs: Any = {}
    if manifest.get("language_model"):
        found, agreement, count = language_check.measure(bundle, options, manifest, chosen, tell)
        watch.look()
    else:
        found, outputs = _measure(bundle, options, chosen, tell)
        if options.get("latency", True):
            _latency(bundle, options, manifest, found, watch, tell)
        figures.accuracy(manifest, bundle, found, outputs)
        pair = [outputs.get(a["name"]) for a in chosen if a["role"] == "candidate"]
        agreement, count = figures.agreement(manifest, pair), figures.count(outputs)
    for artifact in chosen:
        found[artifact["name"]]["sha256"] = file_hash(os.path.join(bundle, artifact["path"]))
        if found[artifact["name"]]["sha256"] != artifact["sha256"]:
            found[artifact["name"]]["errors"].append("the file was altered while it was checked")
    candidates = [a["name"] for a in chosen if a["role"] == "candidate"]
    state = watch.summary()
    reasons = judge(manifest.get("gates") or {}, {n: found[n] for n in candidates}, agreement, state)
    if options.get("outputs") and out:
        _save(os.path.join(out, "outputs.npz"), outputs)
    return {
        "passed": not reasons,
        "reasons": reasons,
        "artifacts": found,
        "agreement": agreement,
        "evaluation_samples": count,
        "conditions": state,
        "manifest_sha256": file_hash(os.path.join(bundle, "manifest.json")),
        "device": facts.device(bundle),
    }


def _measure(bundle: Any, options: Any, chosen: Any, tell: Any) -> Any:
    found: Any = {}
    outputs: Any = {}
    with tempfile.TemporaryDirectory() as scratch:
        for artifact in chosen:
            name = artifact["name"]
            path = os.path.join(scratch, name + ".npz")
            wishes = {"name": name, "out": path, "threads": options.get("threads", 1), "samples": 0}
            wishes["samples"] = options.get("samples", 0)
            body, error = children.work(bundle, "measure", wishes, tell)
            found[name] = dict(body or {}, bytes=artifact["bytes"], errors=[] if error is None else [error])
            if error is None:
                outputs[name] = figures.load(path)
    return found, outputs


def _latency(bundle: Any, options: Any, manifest: Any, found: Any, watch: Any, tell: Any) -> None:
    running = [name for name in found if not found[name]["errors"]]
    if not running:
        return
    fewest = 200 if (manifest.get("gates") or {}).get("max_latency_p95_ms") is not None else 100
    wishes = {"names": running, "threads": options.get("threads", 1), "fewest": fewest}
    tell({"progress": "latency", "done": 0, "total": None})
    times, error = children.work(bundle, "latency", wishes, tell)
    watch.look()
    for name in running:
        if error is None:
            found[name]["latency_ms"] = figures.percentiles(times[name])
        else:
            found[name]["errors"].append("latency: " + error)


def _save(path: Any, outputs: Any) -> None:
    import numpy as np

    np.savez(
        path, **{"%s/%s" % (name, key): array for name, arrays in outputs.items() for key, array in arrays.items()}
    )
