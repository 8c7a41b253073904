"""Processes that the checker starts: each ends when the one that started it does."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

__all__ = ["archive", "environment", "guard", "work"]

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def archive() -> str:
    """The check.pyz that this runs from."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def guard() -> None:
    """The kernel kills this process when its parent dies (Linux; elsewhere nothing happens)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def environment() -> Any:
    """What children inherit: runtimes must not phone home from a device."""
    was = os.environ.get("KBIT_TELEMETRY", os.environ.get("ORT_DISABLE_TELEMETRY", ""))
    return dict(os.environ, ORT_DISABLE_TELEMETRY="1", KBIT_TELEMETRY=was)  # doctor wants to know how it was


def work(bundle: Any, do: Any, options: Any, tell: Any) -> Any:
    """(result, error) of a worker process: one that raises or dies is one line, not the end of the check.

    tell  called with every message that is not the result
    """
    command = [sys.executable, archive(), str(bundle), "--worker", json.dumps(dict(options, do=do))]
    with tempfile.TemporaryFile() as errors:
        result = problem = None
        streams: Any = {"stdout": subprocess.PIPE, "stderr": errors, "stdin": subprocess.DEVNULL}
        with subprocess.Popen(command, env=environment(), **streams) as process:
            assert process.stdout is not None
            for line in process.stdout:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue
                if "result" in message:
                    result = message["result"]
                elif "error" in message:
                    problem = message["error"]
                else:
                    tell(message)
            code = process.wait()
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    if result is not None and code == 0:
        return result, None
    if problem is not None:
        return None, problem
    if code < 0:
        return None, "the process was killed by signal %d (9: out of memory, 11: crash)" % -code
    return None, lines[-1] if lines else "the process ended with code %d" % code
