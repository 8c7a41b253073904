"""The page of one bundle, open on one address."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from targets.agent.manifest import BrokenBundle, verify
from targets.transports.browser import runtimes
from targets.transports.browser.certificate import Certificate, make_certificate
from targets.transports.browser.host import HostOutputs
from targets.transports.browser.server import PageServer
from targets.transports.browser.visit import Visit
from targets.transports.browser.work import Settings, Work
from targets.types import Progress, TargetError

__all__ = ["Address", "Page", "Said", "lan_address"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page is: by default on this machine alone, in plain http, on a port that is free."""

    host: str = "127.0.0.1"
    port: int = 0
    https: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """Whom the page tells: ``claimed`` of a browser that has come (the link in hand is then of no more use),
    ``done`` of a verdict, ``progress`` of the work between. They are called from the server's threads.
    """

    claimed: Callable[[Visit], None] = lambda visit: None
    done: Callable[[dict[str, Any]], None] = lambda verdict: None
    progress: Progress = lambda step, done, total: None


def lan_address() -> str:
    """This machine's address in its network. Raises TargetError when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): chooses a route, nothing is sent
            found: str = probe.getsockname()[0]
        except OSError:
            found = ""
    if not found or found.startswith("127."):
        raise TargetError("this machine is in no network that a phone could reach", "name an address: --host ADDRESS")
    return found


class Page:
    """``with Page(bundle) as page:`` it is open meanwhile; ``page.link`` is for the next browser.

    reuse  one browser after the other, each by a link of its own; else the first is the only one
    """

    def __init__(
        self,
        bundle: Path,
        address: Address | None = None,
        settings: Settings | None = None,
        said: Said | None = None,
        *,
        reuse: bool = False,
    ) -> None:
        self._bundle, self._address, self._settings = bundle, address or Address(), settings or Settings()
        self._said, self._reuse = said or Said(), reuse
        self.certificate: Certificate | None = None

    def __enter__(self) -> Page:
        """Raises TargetError: a broken bundle, runtimes not set up, an address in use."""
        try:
            manifest = verify(self._bundle)
        except BrokenBundle as error:
            raise TargetError(str(error)) from error
        if "language_model" in manifest:
            hint = "check it on the device: kbit check BUNDLE --on ssh://user@host"
            raise TargetError(f"{manifest['name']} is a language model, which the page cannot run", hint)
        runtimes.require()
        work = Work(self._bundle, manifest, self._settings)
        if self._address.https:
            self.certificate = make_certificate(self._address.host)
        tls = self.certificate.context if self.certificate else None
        where = (self._address.host, self._address.port)
        self._server = PageServer(where, lambda: self._visit(work), reuse=self._reuse, tls=tls)
        count, limit = work.samples["evaluation"], self._settings.limit_s
        self._host = work.host = HostOutputs(self._bundle, manifest, count, limit)
        self._server.serve()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    @property
    def link(self) -> str:
        return self._server.link

    def settle(self) -> None:
        """Wait until this machine's own outputs are there: a browser of this machine shall have it to itself."""
        self._said.progress("this machine's own outputs", 0, None)
        self._host.wait()

    def _visit(self, work: Work) -> Visit:
        visit = Visit(work, self._said.progress, self._said.done)
        self._said.claimed(visit)
        return visit
