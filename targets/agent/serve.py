"""The device's end of a connection: files in, jobs run, results out. When the other end goes, so does all of this.

Each message is one line of JSON, then as many bytes as its "payload" says.

  in   {"op": "have", "files": [[name, sha256], ...], "keep": bool}
                                                        -> {"missing": [name, ...], "free": bytes on this disk}
       {"op": "put", "name", "sha256", "payload"}       -> {"ok": true}
       {"op": "job", "do", "options"}                   -> {"progress", "done", "total"} ..., then {"result"}
       {"op": "get", "name"}                            -> {"payload"}
       {"op": "bye"}
  out  {"error": one line} in place of an answer; {"beat": seconds} every few seconds while a job runs

The folder holds check.pyz, ``bundle`` (what was put) and ``out`` (what a job wrote). Beside it ``kept`` holds files by
their sha256 from one connection to the next: those of the last bundle that asked for it; whoever does not ask removes
them.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from . import children
from .manifest import file_hash

__all__ = ["HELLO", "serve"]

HELLO = "kbit-checker 1"
_BEAT_S = 2.0
_LONGEST_LINE = 1 << 20


def serve(folder: Any) -> int:
    """Answer on stdout what comes on stdin, until it ends; then remove the folder."""
    connection = _Connection(os.path.abspath(folder))
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        connection.answer()
    except (BrokenPipeError, EOFError):
        return 1  # the other end is gone: nobody is there to be told
    finally:
        connection.close()
    return 0


class _Connection:
    def __init__(self, folder: Any) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._job: Any = None
        self._worker: Any = None
        self._kept = os.path.join(os.path.dirname(folder), "kept")
        self._keep: Any = None  # None: nobody has said
        self._hashes: Any = ()
        for part in ("bundle", "out"):
            os.makedirs(os.path.join(folder, part))

    def answer(self) -> None:
        from . import facts

        self._say({"hello": HELLO, "facts": facts.device(self._folder)})
        answers = {"have": self._have, "put": self._put, "get": self._get, "job": self._start}
        while True:
            message = json.loads(_line())
            if message["op"] == "bye":
                return
            try:
                answers[message["op"]](message)
            except OSError as error:
                self._say({"error": _words(error)})

    def close(self) -> None:
        job = self._job
        if job is not None and job.poll() is None:
            _kill(job)
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._keep is False:
            shutil.rmtree(self._kept, ignore_errors=True)
        elif self._keep and os.path.isdir(self._kept):
            for name in set(os.listdir(self._kept)) - set(self._hashes):
                os.remove(os.path.join(self._kept, name))

    def _say(self, message: Any, payload: Any = b"") -> None:
        data = json.dumps(message).encode() + b"\n" + payload
        with self._lock:
            while data:
                data = data[os.write(1, data) :]

    def _place(self, name: Any, part: Any = "bundle") -> Any:
        root = os.path.normpath(os.path.join(self._folder, part))
        path = os.path.normpath(os.path.join(root, name))
        if not path.startswith(root + os.sep):
            raise OSError(errno.EACCES, "a path outside the bundle", name)
        return path

    def _have(self, message: Any) -> None:
        self._keep, self._hashes = bool(message.get("keep")), [digest for _, digest in message["files"]]
        missing = []
        for name, digest in message["files"]:
            path, kept = self._place(name), self._place(digest, "../kept")
            if not _same(path, digest) and _same(kept, digest):
                _linked(kept, path)
            if not _same(path, digest):
                missing.append(name)
        self._say({"missing": missing, "free": shutil.disk_usage(self._folder).free})

    def _put(self, message: Any) -> None:
        left, problem = message["payload"], None
        path = self._place(message["name"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(path, "wb") as file:
                while left:
                    piece = _read(min(left, 1 << 16))
                    left -= len(piece)
                    file.write(piece)
        except OSError as error:
            problem = error
        while left:  # what is on the way must be read all the same
            left -= len(_read(min(left, 1 << 16)))
        if problem is not None:
            raise problem
        if not _same(path, message["sha256"]):
            self._say({"error": "%s was altered on the way: its sha256 is another than was sent" % message["name"]})
            return
        if self._keep:
            _linked(path, self._place(message["sha256"], "../kept"))
        self._say({"ok": True})

    def _get(self, message: Any) -> None:
        with open(self._place(message["name"], "out"), "rb") as file:
            data = file.read()
        self._say({"payload": len(data)}, data)

    def _start(self, message: Any) -> None:
        self._worker = threading.Thread(target=self._run, args=(message,), daemon=True)
        self._worker.start()

    def _run(self, message: Any) -> None:
        """One job in a process group of its own, so that nothing of it outlives us."""
        try:
            text = json.dumps({"do": message["do"], "options": message["options"]})
            words = [sys.executable, children.archive(), os.path.join(self._folder, "bundle"), "--job", text]
            words += ["--out", os.path.join(self._folder, "out")]
            with open(os.path.join(self._folder, "log"), "w+b") as log:
                streams: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": log}
                self._job = subprocess.Popen(words, start_new_session=True, env=children.environment(), **streams)
                beat = threading.Event()
                threading.Thread(target=self._beat, args=(beat,), daemon=True).start()
                answered = self._forward()
                beat.set()
                code = self._job.wait()
                if not answered:
                    log.seek(0)
                    self._say({"error": _last_words(code, log.read().decode("utf-8", "replace"))})
        except BrokenPipeError:
            pass
        except OSError as error:
            self._say({"error": _words(error)})

    def _forward(self) -> bool:
        answered = False
        for line in self._job.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # a runtime that prints
            self._say(message)
            answered = answered or "result" in message or "error" in message
        return answered

    def _beat(self, over: Any) -> None:
        start = time.monotonic()
        while not over.wait(_BEAT_S):
            try:
                self._say({"beat": round(time.monotonic() - start, 1)})
            except OSError:
                return


def _read(count: Any) -> bytes:
    piece = os.read(0, count)
    if not piece:
        raise EOFError
    return piece


def _line() -> bytes:
    """Byte by byte: not one byte of the payload behind it may be taken."""
    line = bytearray()
    while True:
        line += _read(1)
        if line.endswith(b"\n"):
            return bytes(line)
        if len(line) > _LONGEST_LINE:
            raise EOFError


def _same(path: Any, digest: Any) -> bool:
    return os.path.isfile(path) and file_hash(path) == digest


def _linked(old: Any, new: Any) -> None:
    """The same file under another name; a copy where the disk has no links."""
    os.makedirs(os.path.dirname(new), exist_ok=True)
    if os.path.exists(new):
        os.remove(new)
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)


def _kill(job: Any) -> None:
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def _words(error: Any) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return "%s%s" % (error.strerror or error, ": %s" % error.filename if error.filename else "")


def _last_words(code: Any, log: Any) -> str:
    if code < 0:
        return "the checker was killed by signal %d%s" % (-code, " (out of memory?)" if code == -9 else "")
    lines = log.strip().splitlines()
    return lines[-1] if lines else "the checker ended with code %d" % code
