"""As much of adbd as Debian lacks: shell commands over TCP, for the real adb client.

Messages and streams: packages/modules/adb/protocol.txt and shell_protocol.h of Android; no authentication, no sync.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from typing import Any

__all__ = ["Adbd"]

_VERSION, _MOST = 0x01000001, 1 << 18
_CNXN, _OPEN, _OKAY, _WRTE, _CLSE = (
    int.from_bytes(word, "little") for word in (b"CNXN", b"OPEN", b"OKAY", b"WRTE", b"CLSE")
)
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)


class Adbd:
    """Listens on loopback; ``environment`` is what the phone's shell has. ``cut`` ends every connection."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for connection in self._open:
            connection.close() if connection.fileno() < 0 else connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=_Link(connection, self.environment).serve, daemon=True).start()


class _Link:
    """One host."""

    def __init__(self, connection: socket.socket, environment: dict[str, str]) -> None:
        self._connection, self._environment = connection, environment
        self._lock = threading.Lock()
        self._shells: dict[int, _Shell] = {}

    def serve(self) -> None:
        try:
            while True:
                command, first, second, size, _, _ = struct.unpack("<6I", self._read(24))
                data = self._read(size)
                if command == _CNXN:
                    self.send(_CNXN, _VERSION, _MOST, b"device::ro.product.model=stand-in;features=shell_v2,cmd")
                elif command == _OPEN:
                    self._begin(first, data.rstrip(b"\0").decode())
                elif command == _WRTE and second in self._shells:
                    self._shells[second].taken(data)
                    self.send(_OKAY, second, first)
                elif command == _OKAY and second in self._shells:
                    self._shells[second].ready.release()
                elif command == _CLSE and second in self._shells:
                    self._shells.pop(second).end()
        except (OSError, EOFError):
            pass
        finally:
            for shell in self._shells.values():
                shell.end()

    def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        head = struct.pack("<6I", command, first, second, len(data), 0, command ^ 0xFFFFFFFF)
        with self._lock:
            self._connection.sendall(head + data)

    def _begin(self, remote: int, service: str) -> None:
        kind, _, words = service.partition(":")
        if not kind.startswith("shell,v2"):
            self.send(_CLSE, 0, remote)
            return
        local = len(self._shells) + 1
        self._shells[local] = _Shell(self, local, remote, words, self._environment)
        self.send(_OKAY, local, remote)
        self._shells[local].start()

    def _read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            piece = self._connection.recv(count - len(found))
            if not piece:
                raise EOFError
            found += piece
        return found


class _Shell:
    """One command. Packets of the shell protocol: a byte that says what, a length, the bytes."""

    def __init__(self, link: _Link, local: int, remote: int, words: str, environment: dict[str, str]) -> None:
        self._link, self._local, self._remote = link, local, remote
        self.ready = threading.Semaphore(1)
        self._pending = b""
        self._sending = threading.Lock()
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = subprocess.Popen(["/bin/sh", "-c", words], env=environment, **pipes)

    def start(self) -> None:
        threading.Thread(target=self._finish, daemon=True).start()

    def taken(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) >= 5:
            kind, size = struct.unpack("<BI", self._pending[:5])
            if len(self._pending) < 5 + size:
                return
            body, self._pending = self._pending[5 : 5 + size], self._pending[5 + size :]
            assert self._process.stdin is not None
            try:
                if kind == _STDIN:
                    self._process.stdin.write(body)
                    self._process.stdin.flush()
                elif kind == _CLOSE_STDIN:
                    self._process.stdin.close()
            except (OSError, ValueError):
                pass  # the command has ended

    def end(self) -> None:
        """The host is gone: the command sees the end of its input, as under the real one."""
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except OSError:
            pass

    def _finish(self) -> None:
        outputs = ((_STDOUT, self._process.stdout), (_STDERR, self._process.stderr))
        threads = [threading.Thread(target=self._pass_on, args=each, daemon=True) for each in outputs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        code = self._process.wait()
        try:
            self._packet(_EXIT, bytes([code % 256]))
            self._link.send(_CLSE, self._local, self._remote)
        except OSError:
            pass

    def _pass_on(self, kind: int, stream: Any) -> None:
        try:
            while piece := os.read(stream.fileno(), 1 << 14):
                self._packet(kind, piece)
        except OSError:
            pass
        finally:
            stream.close()

    def _packet(self, kind: int, body: bytes) -> None:
        with self._sending:
            self.ready.acquire(timeout=60)  # one message at a time, each with its OKAY
            self._link.send(_WRTE, self._local, self._remote, struct.pack("<BI", kind, len(body)) + body)
