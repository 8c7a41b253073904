"""Where a bundle runs, how to reach it, and what went wrong there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

__all__ = ["Job", "Progress", "Target", "TargetError", "Transport"]

Progress = Callable[[str, int, "int | None"], None]  # step, done, total


class TargetError(Exception):
    """One line for the user: what failed where, and what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(message, hint)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Target:
    """One device, as its TOML file in targets/devices (or a user's own) describes it.

    transport   how to reach it: local, ssh, adb, emulated, browser; None: described, but no address is known
    address     what the transport needs: "user@host:port", a serial number, a board; empty where it needs nothing
    python      Python on the device; empty: the first of ~/kbit/bin/python and python3
    isa         what the processor has beyond its base set: neon, dotprod, i8mm, avx2, avx512_vnni …
    runtimes    runtime ("onnxruntime", "tflite") -> oldest version that runs our files
    thermal, governor, clock  paths below / of its temperature, cpufreq governor and current clock
    source      where these facts come from
    base        the target that a user's file starts from
    """

    name: str
    description: str
    transport: str | None = None
    address: str = ""
    python: str = ""
    cpu: str = ""
    cores: int | None = None
    isa: tuple[str, ...] = ()
    memory_mb: int | None = None
    runtimes: Mapping[str, str] = field(default_factory=dict)
    thermal: str = ""
    governor: str = ""
    clock: str = ""
    source: str = ""
    base: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work for the checker on the device.

    do       check, bench, facts, taps or profile (docs/adding.md, "A transport")
    options  plain data, as the checker documents it for each kind
    limit_s  the transport ends the job after this many seconds
    """

    do: Literal["check", "bench", "facts", "taps", "profile"]
    options: Mapping[str, Any]
    limit_s: float = 3600.0


class Transport(Protocol):
    """An open way to one device. Entering connects; leaving removes from the device whatever was put there.

    Every method raises TargetError, one line, and nothing else; foreign exceptions are mapped inside.
    """

    def __enter__(self) -> Transport: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def push(self, files: Mapping[str, Path], progress: Progress) -> int:
        """Make the bundle on the device hold these files (name -> local file); returns the bytes that travelled."""
        ...

    def run(self, job: Job, progress: Progress) -> dict[str, Any]:
        """Do the job there and return its result (for check: the body of check.json, docs/bundle-format.md)."""
        ...

    def pull(self, name: str) -> bytes:
        """A file that a job wrote: "outputs.npz", "taps.npz"."""
        ...
