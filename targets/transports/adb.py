"""Over the system's adb: a phone whose shell has Python (Termux as root, a chroot), or says that it has none."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence

from targets.transports import boot
from targets.transports.connection import Connection, Way
from targets.types import Target, TargetError

__all__ = ["open_adb"]

_LOOK_S = 30.0
# a phone's own shell comes first on PATH and has no Python; Termux keeps its own under this prefix
_PATH = "/data/data/com.termux/files/usr/bin"
_ELSEWHERE = "kbit serve runs the bundle in the phone's browser, and the sample app for Android runs it natively"

_SAID: Sequence[tuple[str, str, str]] = (
    (r"unauthorized", "the phone has not allowed this computer", "unlock it and say yes to USB debugging"),
    (r"device offline", "the phone is offline to adb", "unplug it and plug it in again"),
    (r"more than one device", "several devices are connected", "name one: --on adb:SERIAL (adb devices lists them)"),
    (r"no devices/emulators found|device .* not found", "no such device is connected",
     "adb devices lists them; switch on USB debugging in the developer options"),
    (r"cannot connect to daemon|failed to start daemon", "adb's server does not start", "adb start-server says why"),
    (r"closed|protocol fault|connection reset", "the connection was cut", "plug it in again, and run it again"),
)  # fmt: skip


def open_adb(target: Target) -> Connection:
    """address: a serial number, or empty for the one device that is connected."""
    if shutil.which("adb") is None:
        raise TargetError("adb is not installed here", "sudo apt install adb (or Android's platform tools)")
    select = ["-s", target.address] if target.address else []
    _there(target, select)
    # -T: no terminal, so that bytes pass as they are; quoted once, for the phone's shell
    remote = f"PATH=$PATH:{_PATH} sh -c {shlex.quote(boot.script(target.python))}"
    command = ["adb", *select, "shell", "-T", remote]
    return Connection(Way(target.name, command, lambda code, stderr: _explain(target.name, code, stderr)))


def _there(target: Target, select: Sequence[str]) -> None:
    """Say now that no device answers: ``adb shell`` would wait for it."""
    try:
        done = subprocess.run(
            ["adb", *select, "get-state"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LOOK_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"{target.name}: adb gives no answer", "adb kill-server, then run it again") from error
    if done.returncode or done.stdout.strip() != "device":
        raise _explain(target.name, done.returncode, f"{done.stdout}\n{done.stderr}")


def _explain(name: str, code: int | None, stderr: str) -> TargetError:
    if code in boot.EXPLAINED:
        message, hint = boot.EXPLAINED[code]
        return TargetError(f"{name}: {message}", _ELSEWHERE if code == 41 else hint)
    for pattern, meaning, hint in _SAID:
        if re.search(pattern, stderr):
            return TargetError(f"{name}: {meaning}", hint)
    last = stderr.strip().splitlines()[-1] if stderr.strip() else f"adb ended with code {code}"
    return TargetError(f"{name}: {last}", "run it again")
