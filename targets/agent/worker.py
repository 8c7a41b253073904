"""What runs in a process of its own: one artifact's accuracy and memory, or the latency of all of them in turn."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from typing import Any

import numpy as np

from . import preprocess
from .manifest import batch_of, read
from .runtimes import load_runtime, open_artifact

__all__ = ["count", "feeds_of", "golden_batch", "latency", "measure", "memory_of", "sample_arrays"]

_MARK = 0x4B424954  # what targets/transports/emulation/count_instructions.c looks for
_RUN_SECONDS = 3.0
_MOST_RUNS = 1000
_WARM_SECONDS = 0.3


def feeds_of(manifest: Any, arrays: Any, start: Any, stop: Any) -> Any:
    """Model-ready arrays of the raw samples start to stop - 1."""
    feeds = {}
    for spec in manifest["inputs"]:
        raw = arrays["input." + spec["name"]][start:stop]
        if spec["dtype"] == "float32":
            feeds[spec["name"]] = preprocess.apply(raw, spec.get("preprocess"), spec["shape"])
        else:
            feeds[spec["name"]] = raw.astype(spec["dtype"])
    return feeds


def sample_arrays(folder: Any, entry: Any) -> Any:
    """golden.npz or evaluation.npz, as the manifest's ``entry`` names it."""
    with np.load(os.path.join(folder, entry["path"]), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def golden_batch(folder: Any, manifest: Any) -> Any:
    """The first golden samples, model-ready: what one run takes."""
    return feeds_of(manifest, sample_arrays(folder, manifest["golden"]), 0, batch_of(manifest))


def _outputs(session: Any, manifest: Any, arrays: Any, count: Any, tell: Any) -> Any:
    size = batch_of(manifest)
    block = max(size, 64 // size * size)
    found: Any = [[] for _ in manifest["outputs"]]
    for start in range(0, count, block):
        feeds = feeds_of(manifest, arrays, start, min(start + block, count))
        many = len(next(iter(feeds.values())))
        for place in range(0, many, size):
            part = {name: array[place : place + size] for name, array in feeds.items()}
            real = len(next(iter(part.values())))
            if real < size:
                part = {n: np.concatenate([a] + [a[-1:]] * (size - real)) for n, a in part.items()}
            for kept, result in zip(found, session.run(part)):
                kept.append(result[:real])
        tell(min(start + block, count), count)
    return [np.concatenate(parts) for parts in found]


def memory_of(key: Any) -> Any:
    """VmRSS or VmHWM of this process, bytes; None where /proc does not say."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith(key):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def measure(folder: Any, options: Any, say: Any) -> Any:
    """Load, first run, memory, outputs on the golden and evaluation samples (saved to ``out``).

    options  name (of the artifact), out (file), threads, samples (of the evaluation at most; 0: all)
    """
    name, limit, threads = options["name"], options["samples"], options["threads"]
    manifest = read(folder)
    artifact = next(a for a in manifest["artifacts"] if a["name"] == name)
    module, package, version = load_runtime(artifact["runtime"])
    golden = sample_arrays(folder, manifest["golden"])
    feeds = feeds_of(manifest, golden, 0, batch_of(manifest))
    base = memory_of("VmRSS")
    start = time.perf_counter()
    session = open_artifact(module, artifact, os.path.join(folder, artifact["path"]), threads)
    loaded = time.perf_counter()
    session.run(feeds)
    first = time.perf_counter()
    for _ in range(4):
        session.run(feeds)
    peak = memory_of("VmHWM")
    results = {}

    def tell(done: Any, total: Any) -> None:
        say({"progress": name, "done": done, "total": total})

    count = len(next(v for k, v in golden.items() if k.startswith("input.")))
    for spec, array in zip(manifest["outputs"], _outputs(session, manifest, golden, count, lambda *_: None)):
        results["golden." + spec["name"]] = array
    if manifest.get("evaluation"):
        arrays = sample_arrays(folder, manifest["evaluation"])
        count = len(next(v for k, v in arrays.items() if k.startswith("input.")))
        count = min(count, limit) if limit else count
        for spec, array in zip(manifest["outputs"], _outputs(session, manifest, arrays, count, tell)):
            results["evaluation." + spec["name"]] = array
    np.savez(options["out"], **results)
    return {
        "load_ms": (loaded - start) * 1e3,
        "first_ms": (first - loaded) * 1e3,
        "peak_bytes": peak,
        "model_peak_bytes": None if peak is None or base is None else max(0, peak - base),
        "runtime_package": package,
        "runtime_version": version,
    }


def latency(folder: Any, options: Any, say: Any) -> Any:
    """Milliseconds of every run by artifact, one sample a run, all artifacts in turn so that drift hits them alike.

    options  names (of the artifacts), threads, fewest (runs)
    """
    names, threads, fewest = options["names"], options["threads"], options["fewest"]
    manifest = read(folder)
    feeds = golden_batch(folder, manifest)
    sessions = {}
    for artifact in manifest["artifacts"]:
        if artifact["name"] in names:
            module, _, _ = load_runtime(artifact["runtime"])
            path = os.path.join(folder, artifact["path"])
            session = open_artifact(module, artifact, path, threads)
            sessions[artifact["name"]] = session, session.prepare(feeds)
    end = time.perf_counter() + _WARM_SECONDS
    while time.perf_counter() < end:
        for session, arrays in sessions.values():
            session.invoke(arrays)
    times: Any = {name: [] for name in sessions}
    end = time.perf_counter() + _RUN_SECONDS * len(sessions)
    runs = 0
    while runs < _MOST_RUNS and (time.perf_counter() < end or runs < fewest):
        for name, (session, arrays) in sessions.items():
            start = time.perf_counter()
            session.invoke(arrays)
            times[name].append((time.perf_counter() - start) * 1e3)
        runs += 1
    return times


def count(folder: Any, options: Any, say: Any) -> Any:
    """Run one artifact, with a mark behind each run for the emulator's instruction counter. Gives nothing itself.

    options  name (of the artifact), repeats
    """
    manifest = read(folder)
    artifact = next(a for a in manifest["artifacts"] if a["name"] == options["name"])
    module, _, _ = load_runtime(artifact["runtime"])
    session = open_artifact(module, artifact, os.path.join(folder, artifact["path"]), 1)
    arrays = session.prepare(golden_batch(folder, manifest))
    prctl = ctypes.CDLL(None).prctl
    gc.disable()
    for _ in range(3):
        session.invoke(arrays)
    prctl(_MARK, 0)
    for repeat in range(options["repeats"]):
        session.invoke(arrays)
        prctl(_MARK, repeat + 1)
    return {}
