"""What may spoil a measurement: temperature, throttling, clocks that jump, other processes."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import time
from typing import Any

__all__ = ["Watch", "look"]

# the firmware's get_throttled, Raspberry Pi documentation, "vcgencmd": bit -> what holds now (16 higher: has held)
_THROTTLE_BITS = ((0, "under-voltage"), (1, "clock capped"), (2, "throttled"), (3, "soft temperature limit"))
_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_JUMP_S = 0.5  # clocks that differ by more than this have jumped: chrony and ntpd slew less than 1 ms a second


def look(root: Any = "/") -> Any:
    """The state right now; None for what this system does not tell.

    temperature_c (the hottest zone), clock_mhz (of each core), top_mhz (its highest), governor, throttled (flags),
    load (1 minute), cpu (jiffies {"busy", "steal", "all"} since boot), core_throttles (x86: how often a core was
    throttled since boot)
    """
    temperatures = [_number(p) for p in glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*/temp"))]
    temperatures = [t / 1000.0 for t in temperatures if t is not None and 0 < t < 200000]
    cpu = os.path.join(root, "sys/devices/system/cpu")
    governors = {_text(p) for p in glob.glob(os.path.join(cpu, "cpu[0-9]*/cpufreq/scaling_governor"))}
    throttles = [_number(p) for p in glob.glob(os.path.join(cpu, "cpu[0-9]*/thermal_throttle/core_throttle_count"))]
    load = (_text(os.path.join(root, "proc/loadavg")) or "").split()
    return {
        "temperature_c": max(temperatures) if temperatures else None,
        "clock_mhz": _clocks_of(cpu, "scaling_cur_freq"),
        "top_mhz": _clocks_of(cpu, "cpuinfo_max_freq"),
        "governor": ",".join(sorted(g for g in governors if g)) or None,
        "throttled": _flags(root),
        "load": float(load[0]) if load else None,
        "cpu": _jiffies(root),
        "core_throttles": sum(t for t in throttles if t) if throttles else None,
    }


class Watch:
    """Looks at the start and whenever told; ``summary`` says what happened in between."""

    def __init__(self, root: Any = "/") -> None:
        self._root = root
        self._clocks = _clocks()
        self.seen = [look(root)]

    def look(self) -> Any:
        """Look once more, and give what was seen."""
        self.seen.append(look(self._root))
        return self.seen[-1]

    def summary(self) -> Any:
        """temperature_c (highest), throttled (flags that held), clock_jump_s, notes (a line for each oddity)."""
        temperatures = [s["temperature_c"] for s in self.seen if s["temperature_c"] is not None]
        flags = sorted({flag for s in self.seen for flag in s["throttled"] or ()})
        now = {name: value - self._clocks[name] for name, value in _clocks().items()}
        wall, steady = now["wall"] - now["monotonic"], now["raw"] - now["monotonic"]
        notes = []
        if abs(wall) > _JUMP_S:
            notes.append(
                "the wall clock jumped by %+.1f s meanwhile; times come from the monotonic clock and hold" % wall
            )
        broken = abs(steady) > _JUMP_S + 0.001 * abs(now["raw"])
        if broken:
            notes.append("the monotonic clock jumped by %+.1f s meanwhile: no time measured here holds" % -steady)
        if flags:
            notes.append("the device was held back meanwhile: %s" % ", ".join(flags))
        return {
            "temperature_c": max(temperatures) if temperatures else None,
            "throttled": flags,
            "clock_jump_s": round(wall, 3),
            "clock_broken": broken,
            "notes": notes,
        }


def _clocks() -> Any:
    monotonic = time.clock_gettime(time.CLOCK_MONOTONIC) if hasattr(time, "CLOCK_MONOTONIC") else time.monotonic()
    raw = time.clock_gettime(time.CLOCK_MONOTONIC_RAW) if hasattr(time, "CLOCK_MONOTONIC_RAW") else monotonic
    return {"wall": time.time(), "monotonic": monotonic, "raw": raw}


def _flags(root: Any) -> Any:
    """What holds back a Raspberry Pi now; None where there is no such firmware."""
    text = _text(os.path.join(root, _FIRMWARE))
    if text is None and root == "/" and shutil.which("vcgencmd"):
        done = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, check=False, timeout=10)
        text = done.stdout.strip().partition("=")[2] or None
    if text is None:
        return None
    try:
        bits = int(text, 16)
    except ValueError:
        return None
    return [name for bit, name in _THROTTLE_BITS if bits >> bit & 1]


def _clocks_of(cpu: Any, name: Any) -> Any:
    """MHz of each core, in their order."""
    found = {}
    for path in glob.glob(os.path.join(cpu, "cpu[0-9]*/cpufreq", name)):
        clock = _number(path)
        if clock:
            found[int(path.split(os.sep)[-3][3:])] = round(clock / 1000.0)
    return [found[core] for core in sorted(found)] or None


def _jiffies(root: Any) -> Any:
    fields = (_text(os.path.join(root, "proc/stat")) or "").split("\n")[0].split()[1:9]
    if len(fields) < 8:
        return None
    user, nice, system, idle, wait, irq, soft, steal = map(int, fields)
    return {
        "busy": user + nice + system + irq + soft,
        "steal": steal,
        "all": idle + wait + steal + user + nice + system,
    }


def _number(path: Any) -> Any:
    text = _text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _text(path: Any) -> Any:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None
