"""The check of a language model: speed and memory in a process for each artifact, quality of all of them in one."""

from __future__ import annotations

from typing import Any

from . import children

__all__ = ["measure"]


def measure(bundle: Any, options: Any, manifest: Any, chosen: Any, tell: Any) -> Any:
    """(figures by artifact, agreement of the candidates, windows used); see language.quality and language.speed.

    Each artifact also gets ``metric`` (its perplexity) and ``drop`` (percent above the float model's), by which every
    table and gate knows it.
    """
    threads = options.get("threads", 1)
    found: Any = {}
    for artifact in chosen:
        name = artifact["name"]
        body, error = children.work(bundle, "speed", {"names": [name], "threads": threads, "runs": 1}, tell)
        size = artifact["bytes"] + sum(f["bytes"] for f in manifest["files"] if f["path"] in artifact.get("with", ()))
        found[name] = dict((body or {}).get(name, {}), bytes=size, errors=[] if error is None else [error])
    running = [name for name in found if not found[name]["errors"]]
    if running and options.get("latency", True):
        body, error = children.work(bundle, "speed", {"names": running, "threads": threads}, tell)
        _add(found, running, (body or {}), error, "speed")
    if not running or not manifest.get("evaluation"):
        return found, None, 0
    wishes = {"names": running, "threads": threads, "samples": options.get("samples", 0)}
    body, error = children.work(bundle, "quality", wishes, tell)
    _add(found, running, (body or {}).get("artifacts", {}), error, "quality")
    reference = next((a["name"] for a in chosen if a["role"] == "reference"), None)
    base = found.get(reference, {}).get("perplexity")
    for figures in found.values():
        if "perplexity" in figures:
            figures["metric"] = figures["perplexity"]
            if base:
                figures["drop"] = 100 * (figures["perplexity"] / base - 1)
    return found, (body or {}).get("agreement"), (body or {}).get("windows", 0)


def _add(found: Any, names: Any, body: Any, error: Any, what: Any) -> None:
    for name in names:
        kept = {key: value for key, value in body.get(name, {}).items() if key not in found[name] or key != "load_ms"}
        found[name].update(kept)
        if error is not None:
            found[name]["errors"].append("%s: %s" % (what, error))
