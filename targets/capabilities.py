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

from targets.files import write_whole, writing
from targets.types import Target, TargetError

__all__ = ["Capability", "buys_nothing", "capabilities", "judged", "save"]

_GAIN = 1.1  # less than this is within what two runs differ by

# until somebody has measured the board itself: instructions counted in its emulation
_STANDS_FOR = {"raspberry-pi-4": "emulated-pi4", "raspberry-pi-5": "emulated-pi5"}


@dataclass(frozen=True, slots=True)
class Capability:
    """One operator in one width on one device.

    op               ONNX operator, with what matters of its shape: "Conv 3x3", "MatMul"
    weight_bits, activation_bits  0: float
    low_bits         whether the width saves time: 8 and 16 bits over float, fewer over 8; False: it buys no speed there
    speed            of float over this width, the same operator, shape and runtime: 2.0 is twice as fast
    source           how it was measured: "latency, PROCESSOR" or "instructions" (an emulated board: a proxy)
    dynamic          activations are quantized anew in each run
    """

    op: str
    runtime: str
    weight_bits: int
    activation_bits: int
    low_bits: bool
    speed: float
    source: str = "latency"
    dynamic: bool = False

    @property
    def width(self) -> tuple[int, int, bool]:
        """Weights, activations, dynamic."""
        return self.weight_bits, self.activation_bits, self.dynamic


def capabilities(target: Target) -> list[Capability]:
    """The user's own rows for a target, else the shipped ones of it or of what it is based on, else none."""
    own = _place(target.name)
    if own.is_file():
        return _read(own.read_text("utf-8"), str(own))
    for name in filter(None, (target.name, target.base)):
        shipped = resources.files("targets.measured").joinpath(f"{_STANDS_FOR.get(name, name)}.json")
        if shipped.is_file():
            return _read(shipped.read_text("utf-8"), f"{name}.json")
    return []


def buys_nothing(
    target: Target, runtime: str, op: str, weight_bits: int, activation_bits: int, dynamic: bool = False
) -> Capability | None:
    """The row that says so: this width was measured to be no faster there than the next one. None: it is, or unknown.

    Of widths that were not measured the next wider one that was counts: 3-bit weights run in a kernel of 4 or 8 bits.
    """
    rows = {
        row.weight_bits: row
        for row in capabilities(target)
        if (row.runtime, row.op, row.activation_bits, row.dynamic) == (runtime, op, activation_bits, dynamic)
    }
    found = rows.get(min((bits for bits in rows if bits >= weight_bits), default=-1))
    if found is None or (found.low_bits and not weight_bits < 8 <= found.weight_bits):
        return None
    return found


def judged(rows: Sequence[Capability]) -> list[Capability]:
    """The same rows with ``low_bits`` as their speeds say, which must be those of one device."""
    eight = {(r.op, r.runtime, r.activation_bits, r.dynamic): r.speed for r in rows if r.weight_bits == 8}
    found = []
    for row in rows:
        wider = eight.get((row.op, row.runtime, row.activation_bits, row.dynamic), 1.0) if row.weight_bits < 8 else 1.0
        found.append(dataclasses.replace(row, low_bits=row.speed >= _GAIN * max(wider, 1.0)))
    return found


def save(target: Target, rows: Sequence[Capability]) -> Path:
    """Keep the rows of a user's device; returns the file."""
    place = _place(target.name)
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
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
