"""The HTTP server behind the page: a table of files, samples out, outputs in, nothing else.

A link holds a token behind its #, where no server, log or preview sees it. The page trades it, once, for a cookie that
scripts cannot read; without the cookie there is only the empty page. Nothing of a request becomes a path on disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import json
import math
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, cast

from targets.transports.browser import runtimes
from targets.transports.browser.visit import Refused, Visit
from targets.types import TargetError

__all__ = ["PageServer"]

_MOST_JSON = 64 << 10  # bytes
_MOST_CONNECTIONS = 64
_MOST_VISITS = 8
_SILENT_S = 30.0  # a connection that sends nothing for so long is closed

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "wasm": "application/wasm",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    gzipped: bool = False
    keep: bool = False
    cookie: str = ""
    sent: Callable[[], None] = lambda: None  # called when the browser has it


@cache
def _page_files() -> Mapping[str, bytes]:
    folder = resources.files("targets.agent") / "phone"
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.rpartition(".")[2] in _TYPES}


class PageServer(ThreadingHTTPServer):
    """One bundle's page on one address. ``serve()`` answers in threads of its own until ``close()``.

    visit   called when a browser trades its token: makes the Visit that this browser gets
    reuse   after a token is traded there is a new one for the next browser; else the first stays the only one
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(
        self,
        address: tuple[str, int],
        visit: Callable[[], Visit],
        *,
        reuse: bool,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Raises TargetError when the address cannot be had."""
        self.token = secrets.token_urlsafe(16)
        self.reuse = reuse
        self._make_visit, self._tls = visit, tls
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.runtime_path = f"/runtime/{runtimes.cache_folder().name}"
        try:
            super().__init__(address, _Exchange)
        except OSError as error:
            what = f"{address[0]}:{address[1]}" if address[1] else address[0]
            raise TargetError(f"cannot listen on {what}: {error.strerror}", "name another --port or --host") from error

    @property
    def link(self) -> str:
        """What the next browser opens."""
        host, port = cast("tuple[str, int]", self.server_address)[:2]
        return f"{'https' if self._tls else 'http'}://{host}:{port}/#{self.token}"

    def serve(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        """Nothing is answered from now on, on open connections neither."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def claim(self, token: str) -> str | None:
        """The secret of a new visit for the right token, once; else None."""
        with self._lock:
            right = bool(self.token) and hmac.compare_digest(token.encode(), self.token.encode())
            if not right:
                return None
            secret = secrets.token_urlsafe(24)
            while len(self._visits) >= _MOST_VISITS:
                del self._visits[next(iter(self._visits))]
            self.token = secrets.token_urlsafe(16) if self.reuse else ""
            self._visits[secret] = self._make_visit()
            return secret

    def visit(self, secret: str) -> Visit | None:
        with self._lock:
            found = next((v for known, v in self._visits.items() if hmac.compare_digest(known, secret)), None)
        if found is not None:
            found.heard = time.monotonic()
        return found

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(_SILENT_S)
        if self._tls is not None:  # the handshake waits for the connection's own thread
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._open) >= _MOST_CONNECTIONS
            if not full:
                self._open.add(request)
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke, or was no HTTP: nothing of ours."""


class _Exchange(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "kbit"
    sys_version = ""
    server: PageServer

    def do_GET(self) -> None:
        self._send(self._get(self.path))

    def do_POST(self) -> None:
        self._send(self._post(self.path))

    def log_message(self, format: str, *values: Any) -> None:
        """No log: the terminal shows results."""

    def _get(self, path: str) -> _Answer:
        name = "index.html" if path == "/" else path.removeprefix("/")
        if name in _page_files():
            return _Answer(200, _page_files()[name], _kind(name))
        visit = self._visit()
        if visit is None:
            return _Answer(403, b"open the link that kbit printed")
        if path == "/job":
            return _json({**visit.begin(), "runtimes": self.server.runtime_path, "again": self.server.reuse})
        folder, _, name = path.rpartition("/")
        if folder == self.server.runtime_path and name in runtimes.RUNTIMES:
            try:
                return _Answer(200, _runtime(name), _kind(name), gzipped=True, keep=True)
            except TargetError as error:
                return _Answer(500, str(error).encode())
        for artifact in visit.work.artifacts.values():
            if path == f"/bundle/{artifact['path']}":
                return _Answer(200, (visit.work.folder / artifact["path"]).read_bytes(), "application/octet-stream")
        wanted = re.fullmatch(r"/samples/(golden|evaluation)/(\d{1,9})/(\d{1,9})", path)
        body = wanted and visit.work.sample_bytes(wanted[1], int(wanted[2]), int(wanted[3]))
        return _Answer(200, body, "application/octet-stream") if body else _Answer(404, b"no such thing")

    def _post(self, path: str) -> _Answer:
        if self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return _Answer(403, b"not from another site")
        if path == "/claim":
            return self._claim()
        visit = self._visit()
        if visit is None:
            return _Answer(403, b"open the link that kbit printed")
        block = re.fullmatch(r"/outputs/([\w.-]{1,64})/(golden|evaluation)/(\d{1,9})/(\d{1,9})", path)
        if block:
            return self._outputs(visit, block[1], block[2], int(block[3]), int(block[4]))
        try:
            if path == "/alive":
                return self._body(0)[1] or _json({})
            facts = re.fullmatch(r"/artifact/([\w.-]{1,64})", path)
            if facts and facts[1] in visit.work.artifacts:
                body, problem = self._json_body()
                return problem or _json(visit.take_facts(facts[1], body))
            if path == "/finish":
                body, problem = self._json_body()
                if problem:
                    return problem
                verdict = visit.finish(body)
                return dataclasses.replace(_json(verdict), sent=lambda: visit.told(verdict))
        except Refused as error:
            return _Answer(400, str(error).encode())
        return _Answer(404, b"no such thing")

    def _claim(self) -> _Answer:
        body, problem = self._json_body()
        if problem:
            return problem
        secret = self.server.claim(str(body.get("token", "")))
        if secret is None:
            return _Answer(403, b"this link was used already, or was never one: open the newest that kbit printed")
        flags = "; Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if self.server.link.startswith("https") else "")
        return _Answer(200, b"{}", "application/json", cookie=f"{self._cookie_name()}={secret}{flags}")

    def _outputs(self, visit: Visit, artifact: str, kind: str, start: int, stop: int) -> _Answer:
        length = visit.expected_bytes(artifact, kind, start, stop)
        if length is None:
            return _Answer(404, b"no such block")
        body, problem = self._body(length)
        if problem:
            return problem
        if len(body) != length:
            return _Answer(400, f"{length} bytes were expected, {len(body)} came".encode())
        visit.take_block(artifact, kind, start, stop, body)
        return _json({})

    def _body(self, most: int) -> tuple[bytes, _Answer | None]:
        """The request's body, or why it is refused; a body over the limit is not read."""
        stated = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,12}", stated) or self.headers.get("Transfer-Encoding"):
            return b"", _Answer(411, b"a Content-Length is needed")
        if int(stated) > most:
            return b"", _Answer(413, f"at most {most} bytes".encode())
        return self.rfile.read(int(stated)), None

    def _json_body(self) -> tuple[dict[str, Any], _Answer | None]:
        raw, problem = self._body(_MOST_JSON)
        if problem:
            return {}, problem
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        return (body, None) if isinstance(body, dict) else ({}, _Answer(400, b"a JSON object was expected"))

    def _visit(self) -> Visit | None:
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self._cookie_name())
        except CookieError:
            return None
        return self.server.visit(cookie.value) if cookie else None

    def _cookie_name(self) -> str:
        return f"kbit_{self.server.server_address[1]}"  # cookies do not know ports

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "private, max-age=31536000, immutable" if answer.keep else "no-store")
        if answer.gzipped:
            self.send_header("Content-Encoding", "gzip")
        if answer.cookie:
            self.send_header("Set-Cookie", answer.cookie)
        if answer.status >= 400:  # its body may be unread
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(answer.body)
        self.wfile.flush()
        answer.sent()

    def end_headers(self) -> None:
        """What every answer carries, those of the base class too."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()


@cache
def _runtime(name: str) -> bytes:
    return runtimes.read(name)


def _kind(name: str) -> str:
    return _TYPES[name.rpartition(".")[2]]


def _json(body: Any) -> _Answer:
    return _Answer(200, json.dumps(_finite(body), allow_nan=False).encode(), "application/json")


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
