"""This machine: the checker in a folder and a process of its own."""

from __future__ import annotations

import os
import sys

from targets.transports import boot
from targets.transports.connection import Connection, Way
from targets.types import Target, TargetError

__all__ = ["open_local"]

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV", "ORT_DISABLE_TELEMETRY")


def open_local(target: Target) -> Connection:
    """Python is the one that runs kbit, unless the target names another."""
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment["KBIT_PYTHON"] = target.python or sys.executable
    command = ["sh", "-c", boot.script("$KBIT_PYTHON", ("$TMPDIR", "/tmp"))]
    return Connection(Way("host", command, _explain, environment))


def _explain(code: int | None, stderr: str) -> TargetError:
    message, hint = boot.EXPLAINED.get(code or 0, (f"the checker ended with code {code}", ""))
    last = stderr.strip().splitlines()[-1:] if code not in boot.EXPLAINED else []
    return TargetError(f"host: {'; '.join([message, *last])}", hint)
