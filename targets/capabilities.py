"""What a runtime really does in low bits on a device: measured rows, shipped for some devices, saved for users' own."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from targets.types import TargetError

__all__ = ["Capability", "buys_nothing", "capabilities", "gains", "save"]

_GAIN = 1.05  # less than this over float is within what two runs differ by

# until somebody has measured the board itself: instructions counted in its emulation
_STANDS_FOR = {"raspberry-pi-4": "emulated-pi4", "raspberry-pi-5": "emulated-pi5"}


@dataclass(frozen=True, slots=True)
class Capability:
    """One operator in one width on one device.

    op               ONNX operator, with what matters of its shape: "Conv 3x3", "MatMul"
    weight_bits, activation_bits  0: float
    low_bits         whether the kernel computes in integers (or the width saves time); False: it buys nothing there
    speed            of float over this width, the same operator and shape: 2.0 is twice as fast
    source           how it was measured: "latency" or "instructions" (an emulated board: a proxy)
    """

    op: str
    runtime: str
    weight_bits: int
    activation_bits: int
    low_bits: bool
    speed: float
    source: str = "latency"


def capabilities(target: str) -> list[Capability]:
    """The user's own rows for a target, else the shipped ones, else none."""
    own = _place(target)
    if own.is_file():
        return _read(own.read_text("utf-8"), str(own))
    shipped = resources.files("targets.measured").joinpath(f"{_STANDS_FOR.get(target, target)}.json")
    return _read(shipped.read_text("utf-8"), f"{target}.json") if shipped.is_file() else []


def buys_nothing(target: str, runtime: str, weight_bits: int, activation_bits: int) -> list[str]:
    """Operators for which this width was measured to be no faster than float on the target; empty: none, or unknown."""
    rows = capabilities(target)
    wanted = (runtime, weight_bits, activation_bits)
    return [r.op for r in rows if (r.runtime, r.weight_bits, r.activation_bits) == wanted and not r.low_bits]


def gains(speed: float) -> bool:
    """Whether a measured speed against float counts as faster."""
    return speed >= _GAIN


def save(target: str, rows: Sequence[Capability]) -> Path:
    """Keep the rows of a user's device; returns the file."""
    place = _place(target)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n", "utf-8")
    except OSError as error:
        raise TargetError(f"cannot write {place}: {error.strerror}", "free some space") from error
    return place


def _place(target: str) -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "kbit" / "capabilities" / f"{target.replace('/', '_').replace(':', '_')}.json"


def _read(text: str, where: str) -> list[Capability]:
    try:
        body: list[dict[str, Any]] = json.loads(text)
        return [Capability(**row) for row in body]
    except (ValueError, TypeError) as error:
        raise TargetError(
            f"{where}: not a table of capabilities ({error})", "kbit targets probe NAME makes it anew"
        ) from error
