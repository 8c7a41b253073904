"""A Transport over any command whose stdin and stdout reach a shell on the device (docs/adding.md, "A transport").

The command starts our checker there, which then answers on the same channel (targets/agent/serve.py); one channel, so
that the device notices at once when we are gone, and we when it is.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from targets.agent import archive
from targets.agent.manifest import file_hash
from targets.agent.serve import HELLO
from targets.types import Job, Progress, TargetError

__all__ = ["Connection", "Way"]

_START_S = 90.0  # a Pi Zero takes 10 s to start Python; an emulated board on a busy machine longer
_SILENCE_S = 60.0  # while a job runs the device says something every 2 s
_SPARE_BYTES = 16 << 20
_NOISE_BYTES = 1 << 16  # what a login may print before we begin


@dataclass(frozen=True, slots=True)
class Way:
    """How one kind of transport starts the checker.

    name         of the device, for messages
    command      words of the local process; its stdin and stdout are the channel
    explain      (exit code, stderr) -> the TargetError to raise when the channel ends
    environment  of that process; None: ours
    silence_s    without a word for so long, the device counts as gone
    """

    name: str
    command: Sequence[str]
    explain: Callable[[int | None, str], TargetError]
    environment: Mapping[str, str] | None = None
    silence_s: float = field(default=_SILENCE_S)


class Connection:
    """Open from ``__enter__`` to ``__exit__``; ``facts`` is what the device said of itself.

    keep  leave the bundle's files there for the next connection; else what an earlier one left is used and removed
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        self._messages: queue.Queue[tuple[dict[str, Any], bytes] | None] = queue.Queue()
        self._stderr: list[bytes] = []
        self.facts: dict[str, Any] = {}
        self.keep = False

    def __enter__(self) -> Connection:
        environment = None if self._way.environment is None else dict(self._way.environment)
        try:
            self._process = subprocess.Popen(
                list(self._way.command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=environment,
            )  # fmt: skip
        except OSError as error:
            raise TargetError(f"cannot start {self._way.command[0]}: {error.strerror}", "install it") from error
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._overhear)]
        for thread in self._threads:
            thread.start()
        try:
            self._write(archive.build())
            hello, _ = self._receive(_START_S)
        except BaseException:
            self._end()
            raise
        self.facts = hello["facts"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(TargetError):  # it is gone already; what mattered was said before
            if kind is None and self._process.poll() is None:
                self._write(b'{"op": "bye"}\n')
        self._end()

    def push(self, files: Mapping[str, Path], progress: Progress) -> int:
        """Send what the device does not have yet, by hash."""
        hashes = {name: file_hash(path) for name, path in files.items()}
        answer = self._ask({"op": "have", "files": list(hashes.items()), "keep": self.keep})
        missing = [name for name in files if name in set(answer["missing"])]
        sizes = {name: files[name].stat().st_size for name in missing}
        total = sum(sizes.values())
        if total + _SPARE_BYTES > answer["free"]:
            need, free = (total + _SPARE_BYTES) / 1e6, answer["free"] / 1e6
            raise self._error(f"the disk is full: {need:.0f} MB are needed, {free:.0f} MB free", "free some space")
        sent = 0
        for name in missing:
            head = {"op": "put", "name": name, "sha256": hashes[name], "payload": sizes[name]}
            self._write(json.dumps(head).encode() + b"\n")
            left = sizes[name]
            with files[name].open("rb") as file:
                while left:
                    piece = file.read(min(left, 1 << 16))
                    if not piece:
                        raise TargetError(f"{files[name]} became shorter while it was sent", "run it again")
                    self._write(piece)
                    left -= len(piece)
                    sent += len(piece)
                    progress(f"send to {self._way.name}", sent, total)
            self._receive(self._way.silence_s)
        return total

    def run(self, job: Job, progress: Progress) -> dict[str, Any]:
        """The job's result, with progress on the way."""
        self._write(json.dumps({"op": "job", "do": job.do, "options": dict(job.options)}).encode() + b"\n")
        end = time.monotonic() + job.limit_s
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise self._error(f"{job.do} took longer than {job.limit_s:.0f} s and was ended", "allow more time")
            message, _ = self._receive(self._way.silence_s, beats=True)
            if "result" in message:
                result: dict[str, Any] = message["result"]
                return result
            if "progress" in message:
                progress(f"{message['progress']} on {self._way.name}", message["done"], message["total"])

    def pull(self, name: str) -> bytes:
        """A file of the device's ``out`` folder."""
        self._write(json.dumps({"op": "get", "name": name}).encode() + b"\n")
        _, data = self._receive(self._way.silence_s)
        return data

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self._write(json.dumps(message).encode() + b"\n")
        return self._receive(self._way.silence_s)[0]

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise self._gone() from error

    def _receive(self, limit_s: float, *, beats: bool = False) -> tuple[dict[str, Any], bytes]:
        """The next message; heartbeats only where they are asked for: one may come late, behind the result."""
        while True:
            try:
                found = self._messages.get(timeout=limit_s)
            except queue.Empty:
                hint = "is it switched off, asleep, or out of reach?"
                raise self._error(f"no word for {limit_s:.0f} s, the connection counts as lost", hint) from None
            if found is None:
                raise self._gone()
            message, data = found
            if "error" in message:
                raise self._error(str(message["error"]))
            if beats or "beat" not in message:
                return message, data

    def _gone(self) -> TargetError:
        """The channel ended before it should: why, from the exit code and what was said on stderr."""
        try:
            code: int | None = self._process.wait(5)
        except subprocess.TimeoutExpired:
            code = None
        self._threads[1].join(1)
        return self._way.explain(code, b"".join(self._stderr).decode("utf-8", "replace"))

    def _error(self, message: str, hint: str = "") -> TargetError:
        return TargetError(f"{self._way.name}: {message}", hint)

    def _end(self) -> None:
        """Close the channel: the device removes everything when it sees that; then we wait for it a little."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(5)
        for output in (self._process.stdout, self._process.stderr):
            if output is not None:
                output.close()

    def _listen(self) -> None:
        """Messages from the device into the queue; None at the end."""
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):  # cut in the middle of a message
            self._listen_to(self._process.stdout)
        self._messages.put(None)

    def _listen_to(self, stream: IO[bytes]) -> None:
        noise, begun = 0, False
        for line in stream:
            try:
                message = json.loads(line)
                begun = begun or message["hello"] == HELLO
            except (ValueError, KeyError, TypeError):
                noise += len(line)
                if begun or noise > _NOISE_BYTES:
                    return
                continue
            count = message.get("payload", 0)
            data = stream.read(count) if count else b""
            if len(data) < count:
                return
            self._messages.put((message, data))

    def _overhear(self) -> None:
        """The last of stderr, for explain."""
        assert self._process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stderr:
                self._stderr = [*self._stderr[-39:], line[:2000]]
