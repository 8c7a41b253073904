"""What the checker can be asked to do: the jobs, and the processes of their own that they start."""

from __future__ import annotations

from typing import Any

from . import bench, checking, facts, language, profiling, taps, worker
from .errors import JobError

__all__ = ["JOBS", "WORKERS", "JobError"]

# job -> function of (bundle folder, options, folder for files, tell) giving the result as plain data
JOBS: Any = {
    "check": checking.check,
    "bench": bench.bench,
    "profile": profiling.profile,
    "taps": taps.taps,
    "facts": lambda bundle, options, out, tell: facts.device(bundle),
}
# the same for a worker: function of (bundle folder, options, tell)
WORKERS: Any = {
    "measure": worker.measure,
    "latency": worker.latency,
    "count": worker.count,
    "launch": bench.launch,
    "memory": bench.memory,
    "sustained": bench.sustained,
    "tap": taps.tap,
    "profiled": profiling.profiled,
    "quality": language.quality,
    "speed": language.speed,
}
