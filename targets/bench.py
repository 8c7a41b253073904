"""Latency that can be trusted: several fresh processes, interleaved artifacts, intervals, and what spoilt the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from targets.check import bundle_files, quiet, verified
from targets.devices_table import get_target
from targets.transports import open_transport
from targets.trust import problems
from targets.types import Job, Progress, Target, TargetError, Transport

__all__ = ["Wish", "bench"]

_MOST_LAUNCHES = 12
_FEWEST, _MOST = 30, 4000  # rounds of a launch
_SLACK_S = 120.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What to measure.

    threads    counts, () for 1 and all cores
    precision  wanted half width of the interval, share of the median
    launches   fresh processes at least: memory layout and the order of events differ from one to the next
    warm_up    seconds at most, in each process
    seconds    of sampling at most, for each thread count, all artifacts together
    sustained  seconds of running one artifact without a pause; 0: none
    artifact   the one to run sustained (default: the first candidate)
    root       folder that stands for / where /sys and /proc are read
    times_alone  no peak memory, no profile
    """

    threads: tuple[int, ...] = ()
    precision: float = 0.01
    launches: int = 5
    warm_up: float = 10.0
    seconds: float = 60.0
    sustained: float = 0.0
    artifact: str = ""
    root: str = "/"
    times_alone: bool = False


def bench(
    bundle: Path | str, on: str | Target = "host", wish: Wish | None = None, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure every artifact on the target; the result is the body of bench.json (docs/bundle-format.md).

    Raises TargetError as ``check`` does, and for targets whose clock means nothing.
    """
    folder, tell, wish = Path(bundle), progress or quiet, wish or Wish()
    target = get_target(on) if isinstance(on, str) else on
    if target.transport in {"emulated", "browser"}:
        hint = "kbit check --on " + ("emulated:… counts instructions" if target.transport == "emulated" else "browser")
        raise TargetError(f"{target.name} has no latency that stands for a device", hint)
    manifest = verified(folder)
    names = [a["name"] for a in manifest["artifacts"] if not target.runtimes or a["runtime"] in target.runtimes]
    if wish.artifact and wish.artifact not in names:
        raise TargetError(f"no artifact {wish.artifact!r} for {target.name}", f"known: {', '.join(names)}")
    with open_transport(target) as device:
        device.push(bundle_files(folder, manifest), tell)
        facts = device.run(Job("facts", {}), tell)
        names = [name for name in names if _runs(manifest, name, facts)]
        if not names:
            raise TargetError(f"{target.name}: no runtime is installed", "pip install onnxruntime ai-edge-litert")
        more = () if wish.times_alone else names
        memory = {name: _memory(device, name, tell) for name in more}
        counts = wish.threads or tuple(sorted({1, facts["cores"] or 1}))
        settings = [_measured(device, names, threads, wish, facts, tell) for threads in counts]
        profiles = {name: _profile(device, name, tell) for name in more}
        long = _sustained(device, manifest, names, wish, tell) if wish.sustained else None
    found = [problem for setting in settings for problem in setting["problems"]]
    found += long["problems"] if long else []
    reasons = [*_over(manifest, settings), *found]
    return {
        "format": 1,
        "bundle": manifest["name"],
        "target": target.name,
        "passed": not reasons,
        "reasons": reasons,
        "trusted": not found,
        "device": facts,
        "peak_bytes": memory,
        "settings": settings,
        "profiles": {name: body for name, body in profiles.items() if body is not None},
        "sustained": long,
    }


def _runs(manifest: Mapping[str, Any], name: str, facts: Mapping[str, Any]) -> bool:
    from targets.agent.facts import RUNTIMES

    runtime = next(a["runtime"] for a in manifest["artifacts"] if a["name"] == name)
    return any(package in facts["packages"] for package in RUNTIMES.get(runtime, ()))


def _memory(device: Transport, name: str, tell: Progress) -> int | None:
    found: int | None = device.run(Job("bench", {"kind": "memory", "name": name, "threads": 1}), tell)["peak_bytes"]
    return found


def _profile(device: Transport, name: str, tell: Progress) -> dict[str, Any] | None:
    """Per kernel, from the runtime's own profiler; None where it has none."""
    try:
        return device.run(Job("profile", {"name": name, "threads": 1}), tell)
    except TargetError:
        return None


def _measured(
    device: Transport, names: Sequence[str], threads: int, wish: Wish, facts: Mapping[str, Any], tell: Progress
) -> dict[str, Any]:
    """One thread count: launches until the intervals are narrow enough, or the time is up."""
    from targets.agent import estimating  # numpy: not before it is needed

    launches: list[dict[str, Any]] = []
    share = wish.seconds / wish.launches
    while True:
        step = len(launches)
        turned = [*names[step % len(names) :], *names[: step % len(names)]]
        options = {"kind": "launch", "names": turned, "threads": threads, "seconds": min(share, 4.0 * len(names)),
                   "fewest": _FEWEST, "most": _MOST, "warm_up": wish.warm_up, "root": wish.root}  # fmt: skip
        tell(f"measure with {_words(threads)}", step, None)
        launches.append(device.run(Job("bench", options, share * 20 + _SLACK_S), tell))
        if len(launches) < wish.launches:
            continue
        series = {name: [each["times"][name] for each in launches] for name in names}
        estimates = {name: estimating.interval(series[name]) for name in names}
        wide = max((e["high"] - e["low"]) / (2 * e["p50"]) for e in estimates.values())
        spent = sum(sum(sum(each["times"][name]) for name in names) for each in launches) / 1e3
        if wide <= wish.precision or len(launches) >= _MOST_LAUNCHES or spent >= wish.seconds:
            break
    reference = names[0]
    artifacts = {}
    for name in names:
        artifacts[name] = {
            **estimates[name],
            **estimating.percentiles(series[name]),
            "load_ms": _median([each["cold"][name]["load_ms"] for each in launches]),
            "first_ms": _median([each["cold"][name]["first_ms"] for each in launches]),
        }
        if name != reference:
            artifacts[name][f"against_{reference}"] = estimating.ratio(series[name], series[reference])
    return {
        "threads": threads,
        "launches": len(launches),
        "warm_up_s": _median([each["warm_up"]["seconds"] for each in launches]),
        "pinned": launches[-1]["pinned"],
        "artifacts": artifacts,
        "conditions": _conditions(launches),
        "problems": [
            f"{_words(threads)}: {p}" for p in problems(launches, artifacts, wish.precision, facts["cores"] or 1)
        ],
    }


def _sustained(
    device: Transport, manifest: Mapping[str, Any], names: Sequence[str], wish: Wish, tell: Progress
) -> dict[str, Any]:
    from targets.agent import estimating

    candidates = [a["name"] for a in manifest["artifacts"] if a["role"] == "candidate" and a["name"] in names]
    name = wish.artifact or candidates[0]
    options = {"kind": "sustained", "name": name, "threads": max(wish.threads or (1,)), "seconds": wish.sustained,
               "root": wish.root}  # fmt: skip
    found = device.run(Job("bench", options, wish.sustained + _SLACK_S), tell)
    rows = found["rows"]
    place = estimating.knee([row["at_s"] for row in rows], [row["median_ms"] for row in rows])
    said = []
    if place is not None:
        before, after = (_median([r["median_ms"] for r in part]) for part in (rows[:place], rows[place:]))
        at = rows[place]["at_s"]
        said.append(f"{name} slows down after {at:.0f} s of running: {before:.3g} ms before, {after:.3g} ms after")
    return {"artifact": name, "rows": rows, "knee": place, "problems": said}


def _over(manifest: Mapping[str, Any], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Gates on latency, judged at one thread; the whole interval must lie below the limit."""
    gates = manifest.get("gates") or {}
    roles = {a["name"]: a["role"] for a in manifest["artifacts"]}
    found = []
    for name, facts in settings[0]["artifacts"].items():
        limit = gates.get("max_latency_ms")
        if roles[name] == "candidate" and limit is not None and facts["high"] > limit:
            said = "is over" if facts["low"] > limit else "may be over"
            found.append(
                f"{name}: max_latency_ms: median {facts['p50']:.4g} ms ({facts['low']:.4g} to {facts['high']:.4g}) "
                f"{said} the limit of {limit:.4g} ms"
            )
        limit = gates.get("max_latency_p95_ms")
        if roles[name] == "candidate" and limit is not None and not facts.get("p95", float("inf")) <= limit:
            found.append(f"{name}: max_latency_p95_ms: {facts.get('p95', 'too few runs')}, limit {limit:.4g} ms")
    return found


def _conditions(launches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Before, the extremes during, and after."""
    states = [state for each in launches for state in each["states"]]

    def span(key: str) -> list[float] | None:
        values = [v for s in states for v in (s[key] if isinstance(s[key], list) else [s[key]]) if v is not None]
        return [min(values), max(values)] if values else None

    def brief(state: Mapping[str, Any]) -> dict[str, Any]:
        return {key: state[key] for key in ("temperature_c", "clock_mhz", "governor", "throttled", "load")}

    during = {"temperature_c": span("temperature_c"), "clock_mhz": span("clock_mhz")}
    return {"before": brief(states[0]), "during": during, "after": brief(states[-1])}


def _words(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
