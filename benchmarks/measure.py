"""What the benchmarks share: where the data is, the machine in one line, tables, interleaved timing."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ROOT", "cifar10", "data", "interleaved", "machine", "summary", "table"]

ROOT = Path(__file__).resolve().parent.parent


def data(name: str) -> Path:
    """A file of the data folder (KBIT_DATA, default ../shared/data); exits with one line when it is not there."""
    folder = Path(os.environ.get("KBIT_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (folder / name).exists():
        sys.exit(f"{name} is not in {folder}; set KBIT_DATA to the folder that holds it")
    return folder / name


def cifar10(name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Images [N,32,32,3], normalised as ResNet-20 was trained, and their labels."""
    with np.load(data(name)) as body:
        images = (body["images"] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        return images.astype(np.float32), body["labels"]


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


def summary(check: Mapping[str, Any]) -> str:
    """What the bundle's checker found, as a markdown table and a line on the agreement of the artifacts."""
    rows = []
    for name, facts in check["artifacts"].items():
        latency = facts["latency_ms"]
        rows.append([name, facts["bytes"], f"{facts['metric']:.2f}", f"{facts['drop']:.2f}", f"{latency['p50']:.3f}"])
    agreement = check["agreement"]
    line = f"top-1 {100 * agreement['top1']:.2f} %, outputs equal {100 * agreement['equal']:.2f} %"
    verdict = "passed" if check["passed"] else "NOT passed: " + "; ".join(check["reasons"])
    head = ["artifact", "bytes", "metric", "drop, points", "p50 ms"]
    return f"{table(head, rows)}\n\nagreement: {line}, at most {agreement['max_lsb']} steps apart; {verdict}"
