"""What makes a latency figure worth nothing: a device that was held back, and noise."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["problems"]

_HOT_C = 80.0  # a Raspberry Pi lowers its clock from here on (documentation, "Frequency management")
_CLOCK = 0.95  # of the highest clock seen
_OTHERS = 0.1  # cores that other processes may use
_STEAL = 0.02  # of the time, that a hypervisor may take away
_HERTZ = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def problems(
    launches: Sequence[Mapping[str, Any]], artifacts: Mapping[str, Mapping[str, Any]], precision: float, cores: int
) -> list[str]:
    """One line each; empty when the figures can be trusted.

    launches   as the checker's ``launch`` gives them: states (conditions.look and own_s), clock, warm_up, pinned
    artifacts  name -> {"p50", "low", "high"}
    precision  wanted half width of the interval, share of the median
    """
    return [*_held_back(launches), *_disturbed(launches, cores), *_noisy(launches, artifacts, precision)]


def _held_back(launches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    states = [state for each in launches for state in each["states"]]
    flags = sorted({flag for state in states for flag in state["throttled"] or ()})
    if flags:
        yield f"throttled: the firmware says {', '.join(flags)}; mind the power supply and the cooling"
    counts = [s["core_throttles"] for s in states if s["core_throttles"] is not None]
    if counts and counts[-1] > counts[0]:
        yield f"throttled: the processor was held back {counts[-1] - counts[0]} times; mind the cooling"
    hottest = max((s["temperature_c"] for s in states if s["temperature_c"] is not None), default=None)
    if hottest is not None and hottest >= _HOT_C:
        yield f"throttled: {hottest:.0f} degrees C, at {_HOT_C:.0f} the clock is lowered; mind the cooling"
    pinned = launches[-1]["pinned"]
    busy = [state for each in launches for state in each["states"][1:] if state["clock_mhz"]]  # the first is idle yet
    clocks = [_clock(state["clock_mhz"], pinned) for state in busy]
    if clocks:
        # turbo clocks of other processors are no promise; a Raspberry Pi runs at its full clock or is held back
        full = [_clock(s["top_mhz"], pinned) for s in busy if s["top_mhz"] and s["throttled"] is not None]
        top = max([*clocks, *full])
        if min(clocks) < _CLOCK * top:
            governor = states[-1]["governor"] or "unknown"
            hint = "" if governor == "performance" else "; as root: cpupower frequency-set -g performance"
            yield f"the clock was at {min(clocks)} of {top} MHz for a while (governor {governor}){hint}"
    for each in launches:
        if each["clock"].get("clock_broken"):
            yield "the monotonic clock jumped meanwhile: no time measured here holds"
            return


def _clock(clocks: Sequence[int], pinned: Sequence[int] | None) -> int:
    """The highest of those that we ran on: the others may well idle."""
    ours = [clocks[core] for core in pinned or () if core < len(clocks)]
    return max(ours or clocks)


def _disturbed(launches: Sequence[Mapping[str, Any]], cores: int) -> Iterator[str]:
    busy = stolen = span = own = 0.0
    for each in launches:
        first, last = each["states"][0], each["states"][-1]
        if first["cpu"] is None or last["cpu"] is None:
            return
        busy += (last["cpu"]["busy"] - first["cpu"]["busy"]) / _HERTZ
        stolen += (last["cpu"]["steal"] - first["cpu"]["steal"]) / _HERTZ
        span += (last["cpu"]["all"] - first["cpu"]["all"]) / _HERTZ
        own += last["own_s"] - first["own_s"]
    seconds = span / max(cores, 1)
    if seconds <= 0:
        return
    others = (busy - own) / seconds
    if others > _OTHERS:
        yield f"noisy: other processes used {others:.2f} of {cores} cores meanwhile; close them"
    if stolen / span > _STEAL:
        yield f"noisy: the hypervisor took {100 * stolen / span:.0f} % of the time; measure on a machine of your own"


def _noisy(
    launches: Sequence[Mapping[str, Any]], artifacts: Mapping[str, Mapping[str, Any]], precision: float
) -> Iterator[str]:
    for name, facts in artifacts.items():
        half = (facts["high"] - facts["low"]) / (2 * facts["p50"])
        if half > precision:
            yield f"noisy: {name} is known to {100 * half:.1f} %, wanted {100 * precision:.1f} %; allow more --seconds"
    if sum(not each["warm_up"]["stable"] for each in launches) > len(launches) / 2:
        yield "noisy: it did not settle within the warm-up"
