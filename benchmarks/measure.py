"""What the benchmarks share: where the data is, the machine in one line, tables, interleaved timing."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

__all__ = ["ROOT", "data", "interleaved", "machine", "table"]

ROOT = Path(__file__).resolve().parent.parent


def data(name: str) -> Path:
    """A file of the data folder (KBIT_DATA, default ../shared/data); exits with one line when it is not there."""
    folder = Path(os.environ.get("KBIT_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (folder / name).exists():
        sys.exit(f"{name} is not in {folder}; set KBIT_DATA to the folder that holds it")
    return folder / name


def machine(*packages: str) -> str:
    """Processor, cores and versions, for the line above a table."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in packages)
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}; {versions}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table."""
    lines = [list(map(str, head)), ["---"] * len(head), *(list(map(str, row)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interleaved(
    first: Callable[[], object], second: Callable[[], object], *, rounds: int = 60, calls: int = 30, warmup: int = 50
) -> tuple[float, float, float]:
    """Median ms of one call of each, and the median over rounds of first / second.

    Each round times ``calls`` of one and then of the other, in turn who begins, so that what else the machine
    does meets both.
    """
    for _ in range(warmup):
        first()
        second()
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            run = (first, second)[which]
            start = time.perf_counter()
            for _ in range(calls):
                run()
            times[which].append((time.perf_counter() - start) / calls * 1e3)
    a, b = map(np.asarray, times)
    return float(np.median(a)), float(np.median(b)), float(np.median(a / b))
