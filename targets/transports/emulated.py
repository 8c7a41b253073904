"""The emulated boards: their sshd on loopback while a check runs, reached like any other device."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from targets.transports.connection import Connection
from targets.transports.emulation import BOARDS, Board, prepare
from targets.transports.emulation.instructions import count
from targets.transports.ssh import open_ssh_command
from targets.types import Job, Progress, Target, TargetError

__all__ = ["Emulated", "open_emulated"]

_TRIES = 200


def open_emulated(target: Target) -> Emulated:
    """address: a name of BOARDS."""
    return Emulated(target, BOARDS[target.address])


class Emulated:
    """The first job builds the userland when it is not there yet, and starts an sshd that lives as long as we do."""

    def __init__(self, target: Target, board: Board) -> None:
        self._target, self.board = target, board
        self._stack = contextlib.ExitStack()
        self._connection: Connection | None = None
        self._files: dict[str, Path] = {}

    def __enter__(self) -> Emulated:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def push(self, files: Mapping[str, Path], progress: Progress) -> int:
        """As Connection."""
        self._files = dict(files)
        return self._open(progress).push(files, progress)

    def run(self, job: Job, progress: Progress) -> dict[str, Any]:
        """As Connection; a check has instruction counts where others have times."""
        connection = self._open(progress)
        if job.do != "check":
            return connection.run(job, progress)
        result = connection.run(replace(job, options={**job.options, "latency": False}), progress)
        running = [name for name, figures in result["artifacts"].items() if not figures["errors"]]
        progress(f"count instructions on {self._target.name}", 0, None)
        try:
            bundle = self._files["manifest.json"].parent
            for name, counted in count(self._folder, self.board, bundle, running).items():
                result["artifacts"][name]["instructions"] = counted
        except TargetError as error:
            result["conditions"]["notes"].append(str(error))
        return result

    def pull(self, name: str) -> bytes:
        """As Connection."""
        assert self._connection is not None, "no job was run"
        return self._connection.pull(name)

    def _open(self, progress: Progress) -> Connection:
        if self._connection is None:
            with contextlib.ExitStack() as stack:
                self._folder = prepare(progress)
                config = stack.enter_context(_server(self._folder, self.board))
                words = ["ssh", "-T", "-F", str(config), "--", self.board.name]
                self._connection = stack.enter_context(open_ssh_command(self._target, words, self.board.name))
                self._stack = stack.pop_all()
        return self._connection


@contextlib.contextmanager
def _server(folder: Path, board: Board) -> Any:
    """The host's sshd as the user who runs kbit, with keys made for this one run; gives the client's config."""
    with tempfile.TemporaryDirectory(prefix="kbit-board-") as scratch:
        place = Path(scratch)
        for key in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(place / key)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd's privilege separation wants it
        process, port = _start(folder, board, place)
        try:
            public = (place / "host.pub").read_text("utf-8")
            (place / "known").write_text(f"[127.0.0.1]:{port} {public}", "utf-8")
            (place / "client").write_text(
                f"Host {board.name}\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n"
                f" IdentityFile {place}/user\n IdentitiesOnly yes\n IdentityAgent none\n"
                f" UserKnownHostsFile {place}/known\n StrictHostKeyChecking yes\n",
                "utf-8",
            )
            yield place / "client"
        finally:
            process.kill()
            process.wait()


def _start(folder: Path, board: Board, place: Path) -> tuple[subprocess.Popen[bytes], int]:
    sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert sshd is not None, "prepare has looked"
    for _ in range(5):  # between asking for a free port and sshd's bind somebody else may take it
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        (place / "server").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {place}/user.pub\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"UsePAM no\nPermitRootLogin yes\nPrintMotd no\nAllowUsers {getpass.getuser()}\n"
            f"ForceCommand {folder}/enter {folder} {board.name} {board.cpu} {board.release}\n",
            "utf-8",
        )
        with (place / "log").open("wb") as log:
            words = [sshd, "-D", "-e", "-f", str(place / "server")]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(_TRIES):
            said = (place / "log").read_text("utf-8", "replace")
            if "Server listening" in said:
                return process, port
            if process.poll() is not None:
                break
            time.sleep(0.05)
        process.kill()
        process.wait()
        if not re.search("Address already in use", said):
            break
    raise TargetError(
        f"the board's sshd does not start: {' '.join(said.split())[:300]}", "is openssh-server installed?"
    )
