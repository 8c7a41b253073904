"""Instructions per inference on an emulated board: the same number every time, a proxy for cost and never a time."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from targets.agent import archive
from targets.transports.emulation.boards import Board
from targets.types import TargetError

__all__ = ["CLASSES", "count", "missing"]

# as the plugin writes them (count_instructions.c)
CLASSES = ("all", "dot_product", "widening_multiply", "float_multiply_add", "branch")
_PROGRAMS = {"qemu-aarch64": "qemu-user", "gcc": "gcc libc6-dev"}
_LIMIT_S = 1800.0
_REPEATS = 5


def missing() -> list[str]:
    """Debian packages that counting needs and that are not installed."""
    return [package for program, package in _PROGRAMS.items() if not shutil.which(program)]


def count(folder: Path, board: Board, bundle: Path, names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Median over some runs of each artifact: class -> instructions of one inference, one sample, one thread.

    folder  of the boards (``prepare``). Raises TargetError with the reason when the count cannot be had.
    """
    if missing():
        raise TargetError("no instruction counts", f"sudo apt install {' '.join(missing())}")
    plugin = _plugin(folder)
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        checker = Path(scratch) / "check.pyz"
        checker.write_bytes(archive.build())
        for name in names:
            lines = Path(scratch) / f"{name}.counts"
            job = json.dumps({"do": "count", "name": name, "repeats": _REPEATS})
            python = folder / "rootfs" / "usr" / "bin" / "python3.11"
            command = ["qemu-aarch64", "-L", str(folder / "boards" / board.name / "root"), "-cpu", board.cpu,
                       "-plugin", str(plugin), str(python), str(checker), str(bundle), "--worker", job]  # fmt: skip
            _run(command, {"KBIT_COUNTS": str(lines)})
            rows = [[int(word) for word in line.split()] for line in lines.read_text("ascii").splitlines()]
            runs = [row[1:] for row in rows if row[0] > 0]  # label 0 ends what came before the first run
            if len(runs) != _REPEATS:
                raise TargetError(f"no instruction counts of {name}: {len(runs)} of {_REPEATS} runs were marked")
            medians = [int(statistics.median(column)) for column in zip(*runs, strict=True)]
            found[name] = dict(zip(CLASSES, medians, strict=True))
    return found


def _plugin(folder: Path) -> Path:
    source = resources.files(__package__).joinpath("count_instructions.c").read_bytes()
    code, built = folder / "count_instructions.c", folder / "count_instructions.so"
    if not built.exists() or not code.exists() or code.read_bytes() != source:
        code.write_bytes(source)
        partial = folder / "count_instructions.partial"
        _run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(partial), str(code)], {})
        partial.replace(built)
    return built


def _run(command: list[str], variables: dict[str, str]) -> Any:
    # nothing of the host's environment reaches the guest: it would lengthen its stack and change the count
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0", "LANG": "C.UTF-8", **variables}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"counting instructions took longer than {_LIMIT_S / 60:.0f} minutes") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise TargetError(f"{Path(command[0]).name}: {lines[-1][:300]}")
    return done
