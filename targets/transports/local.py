"""Run a bundle's own checker on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from targets.types import TargetError

__all__ = ["run_checker"]

_LIMIT_S = 3600
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")


def run_checker(
    bundle: Path, *, samples: int = 0, progress: Callable[[str, int, int], None] | None = None
) -> dict[str, Any]:
    """The checker's result. Raises TargetError when it ends without one, or after an hour."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "check.json"
        command = [sys.executable, "-I", str(bundle / "check.pyz"), str(bundle), "--json", str(result), "--progress"]
        command += ["--samples", str(samples)]
        environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
        last = ""
        streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        with subprocess.Popen(command, **streams, env=environment, text=True) as process:
            watchdog = threading.Timer(_LIMIT_S, process.kill)
            watchdog.start()
            try:
                assert process.stderr is not None
                for line in process.stderr:
                    last = _tell(line, progress) or last
                code = process.wait()
            finally:
                watchdog.cancel()
                process.kill()
        if code not in {0, 1} or not result.is_file():
            message = last.removeprefix("error: ").strip() or f"the checker ended with code {code}"
            raise TargetError(f"{bundle.name} on host: {message}")
        body: dict[str, Any] = json.loads(result.read_text())
        return body


def _tell(line: str, progress: Callable[[str, int, int], None] | None) -> str:
    """Pass a progress line on; anything else is returned as the last word."""
    try:
        message = json.loads(line)
    except ValueError:
        return line
    if progress is not None and isinstance(message, dict) and "progress" in message:
        progress(f"check {message['progress']}", message["done"], message["total"])
    return ""
