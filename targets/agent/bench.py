"""One launch of a latency measurement: a fresh process, pinned, warmed up until stable, all artifacts in turn."""

from __future__ import annotations

import gc
import glob
import os
import resource
import time
from typing import Any

from . import children, conditions
from .errors import JobError
from .manifest import read, verify
from .runtimes import load_runtime, open_artifact
from .worker import golden_batch, memory_of

__all__ = ["bench", "launch", "memory", "sustained"]

_LOOK_S = 0.5
_WARM_LEAST_S = 0.3
_STABLE = 0.01  # warm when two stretches of runs have medians this close
_BUCKET_S = 1.0
_BLOCK = 20  # runs in a row
# those before them find the caches full of another artifact and are not kept: ONNX Runtime is at its pace after 10 ms
_COLD, _MOST_COLD, _COLD_S = 3, 60, 0.01


def bench(bundle: Any, options: Any, out: Any, tell: Any) -> Any:
    """Options: kind ("launch", "memory" or "sustained") and what that worker wants (below)."""
    verify(bundle)
    body, error = children.work(bundle, options["kind"], options, tell)
    if error is not None:
        raise JobError(error)
    return body


def launch(bundle: Any, options: Any, say: Any) -> Any:
    """Times of every run in ms, by artifact, in the order in which they were taken; run i of all is one moment.

    options  names (of the artifacts, in the order to load and run them), threads, seconds (of sampling), fewest and
             most (rounds), warm_up (seconds at most), root (where /sys and /proc are)
    """
    pinned = _pin(options["threads"])
    look = _Looking(options.get("root", "/"))
    sessions, cold = _open(bundle, options)
    gc.disable()
    warm = _warm_up(sessions, look, options["warm_up"])
    times: Any = {name: [] for name in sessions}
    clock = time.perf_counter
    end = clock() + options["seconds"]
    rounds, order = 0, list(sessions)
    while rounds < options["fewest"] or (clock() < end and rounds < options["most"]):
        for name in order:
            session, arrays = sessions[name]
            since = clock()
            for run in range(_MOST_COLD):
                if run >= _COLD and clock() - since > _COLD_S:
                    break
                session.invoke(arrays)
            for _ in range(_BLOCK):
                start = clock()
                session.invoke(arrays)
                times[name].append((clock() - start) * 1e3)
        order = order[1:] + order[:1]
        rounds += _BLOCK
        look.perhaps()
    return {
        "times": times,
        "cold": cold,
        "warm_up": warm,
        "pinned": pinned,
        "states": look.states(),
        "clock": look.jumps(),
    }


def memory(bundle: Any, options: Any, say: Any) -> Any:
    """Peak resident bytes of a process that loads one artifact and runs it. Options: name, threads."""
    sessions, _ = _open(bundle, dict(options, names=[options["name"]]))
    ((session, arrays),) = sessions.values()
    for _ in range(5):
        session.invoke(arrays)
    return {"peak_bytes": memory_of("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def sustained(bundle: Any, options: Any, say: Any) -> Any:
    """One artifact without a pause: a row for each second {"at_s", "median_ms", "runs", "temperature_c", "clock_mhz"}.

    options  name, threads, seconds, root
    """
    pinned = _pin(options["threads"])
    look = _Looking(options.get("root", "/"))
    sessions, _ = _open(bundle, dict(options, names=[options["name"]]))
    ((session, arrays),) = sessions.values()
    rows: Any = []
    clock = time.perf_counter
    begin = clock()
    while clock() - begin < options["seconds"]:
        bucket: Any = []
        first = clock()
        while not bucket or clock() - first < _BUCKET_S:
            start = clock()
            session.invoke(arrays)
            bucket.append((clock() - start) * 1e3)
        state = look.now()
        rows.append({
            "at_s": round(first - begin, 3), "median_ms": sorted(bucket)[len(bucket) // 2], "runs": len(bucket),
            "temperature_c": state["temperature_c"], "clock_mhz": max(state["clock_mhz"] or [0]) or None,
        })  # fmt: skip
        say({"progress": "sustained", "done": int(clock() - begin), "total": int(options["seconds"])})
    return {"rows": rows, "pinned": pinned, "states": look.states(), "clock": look.jumps()}


class _Looking:
    """Looks at the conditions now and then; how much of the processors others had is in what it gives."""

    def __init__(self, root: Any) -> None:
        self._watch = conditions.Watch(root)
        self._next = time.perf_counter() + _LOOK_S
        self._own = [_own_s()]

    def now(self) -> Any:
        self._own.append(_own_s())
        self._next = time.perf_counter() + _LOOK_S
        return self._watch.look()

    def perhaps(self) -> None:
        if time.perf_counter() >= self._next:
            self.now()

    def states(self) -> Any:
        """Each look, with own_s: the processor time that this process had until then."""
        self.now()
        return [dict(state, own_s=own) for state, own in zip(self._watch.seen, self._own)]

    def jumps(self) -> Any:
        return {key: value for key, value in self._watch.summary().items() if key.startswith("clock") or key == "notes"}


def _own_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _open(bundle: Any, options: Any) -> Any:
    """(name -> (session, arrays), name -> {"load_ms", "first_ms"})."""
    manifest = read(bundle)
    feeds = golden_batch(bundle, manifest)
    artifacts = {a["name"]: a for a in manifest["artifacts"]}
    modules = {artifacts[name]["runtime"]: None for name in options["names"]}
    modules = {runtime: load_runtime(runtime)[0] for runtime in modules}
    sessions: Any = {}
    cold: Any = {}
    for name in options["names"]:
        artifact = artifacts[name]
        start = time.perf_counter()
        session = open_artifact(
            modules[artifact["runtime"]], artifact, os.path.join(bundle, artifact["path"]), options["threads"]
        )
        loaded = time.perf_counter()
        arrays = session.prepare(feeds)
        before = time.perf_counter()
        session.invoke(arrays)
        cold[name] = {"load_ms": (loaded - start) * 1e3, "first_ms": (time.perf_counter() - before) * 1e3}
        sessions[name] = session, arrays
    return sessions, cold


def _warm_up(sessions: Any, look: Any, most_s: Any) -> Any:
    """Run until nothing gets faster any more. {"seconds", "stable"}."""
    clock = time.perf_counter
    begin = clock()
    last: Any = None
    while True:
        stretch: Any = {name: [] for name in sessions}
        first = clock()
        while clock() - first < _WARM_LEAST_S / 3 or len(next(iter(stretch.values()))) < 5:
            for name, (session, arrays) in sessions.items():
                start = clock()
                session.invoke(arrays)
                stretch[name].append(clock() - start)
        now = {name: sorted(each)[len(each) // 2] for name, each in stretch.items()}
        look.perhaps()
        spent = clock() - begin
        stable = last is not None and all(abs(now[n] - last[n]) <= _STABLE * now[n] for n in now)
        if (stable and spent >= _WARM_LEAST_S) or spent > most_s:
            return {"seconds": spent, "stable": stable}
        last = now


def _pin(threads: Any) -> Any:
    """Keep this process on as many of the fastest processors as it has threads; the first one is left to the system.

    Gives their numbers, or None where that cannot be done.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    fastest = sorted(allowed, key=lambda core: (-_top_clock(core), -core))
    chosen = sorted(fastest[: max(1, threads)])
    try:
        os.sched_setaffinity(0, chosen)
    except OSError:
        return None
    return chosen


def _top_clock(core: Any) -> int:
    for path in glob.glob("/sys/devices/system/cpu/cpu%d/cpufreq/cpuinfo_max_freq" % core):
        try:
            with open(path, encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError):
            pass
    return 0
