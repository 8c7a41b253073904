"""A browser as a target: the page is opened, a phone or a headless Chromium comes, its outputs are judged here."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from targets.transports.browser.chromium import Chromium
from targets.transports.browser.page import Address, Page, Said, lan_address
from targets.transports.browser.visit import Visit
from targets.transports.browser.work import Settings
from targets.types import Job, Progress, Target, TargetError

__all__ = ["WORDS", "Browser", "open_browser"]

# what may follow "browser:", separated by commas
WORDS = {
    "chromium": "start a headless Chromium here",
    "lan": "let phones of this network in",
    "https": "a self-signed certificate, so that threads and WebGPU work",
    "webgpu": "run on WebGPU",
}
_COME_S = 900.0  # a phone has to be found first
_SILENT_S = 120.0
_LOOK_S = 0.2


def _announce(link: str) -> None:
    """Where nothing better is at hand."""
    sys.stderr.write(f"open on the phone: {link}\n")
    sys.stderr.flush()


class Browser:
    """The Transport of browsers (targets/types.py). ``announce`` shows the link to the user."""

    def __init__(self, target: Target) -> None:
        """Raises TargetError for an address with words that are none of WORDS."""
        self._words = [word for word in target.address.split(",") if word]
        for word in self._words:
            if word not in WORDS:
                hint = f"after browser: come {', '.join(WORDS)}, separated by commas"
                raise TargetError(f"unknown word {word!r} in {target.name!r}", hint)
        self.announce: Callable[[str], None] = _announce
        self._folder: Path | None = None
        self._visit: Visit | None = None

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open between jobs."""

    def push(self, files: Mapping[str, Path], progress: Progress) -> int:
        """A browser fetches what it needs while it runs; nothing travels yet."""
        self._folder = files["manifest.json"].parent
        return 0

    def run(self, job: Job, progress: Progress) -> dict[str, Any]:
        if job.do != "check" or self._folder is None:
            raise TargetError(f"a browser cannot do {job.do!r}", "kbit check --on browser is what it can do")
        accelerator = "webgpu" if "webgpu" in self._words else "wasm"
        settings = Settings(job.options.get("samples", 0), job.options.get("threads", 1), accelerator)
        host = lan_address() if "lan" in self._words else "127.0.0.1"
        claimed = threading.Event()

        def come(visit: Visit) -> None:
            self._visit = visit
            claimed.set()

        said = Said(claimed=come, progress=progress)
        with ExitStack() as stack:
            page = stack.enter_context(Page(self._folder, Address(host, 0, "https" in self._words), settings, said))
            browser = None
            if "chromium" in self._words:
                page.settle()
                spki = page.certificate.spki if page.certificate else ""
                browser = stack.enter_context(Chromium(page.link, spki))
            else:
                self.announce(page.link)
            progress("waiting for a browser", 0, None)
            return self._wait(claimed, browser, time.monotonic() + job.limit_s)

    def pull(self, name: str) -> bytes:
        if name != "outputs.npz" or self._visit is None:
            raise TargetError(f"a browser has no {name}", "kbit check --on browser is what it can do")
        buffer = io.BytesIO()
        self._visit.save_outputs(buffer)
        return buffer.getvalue()

    def _wait(self, claimed: threading.Event, browser: Chromium | None, end: float) -> dict[str, Any]:
        """Until there is a result; a browser that does not come, goes silent or ends is a TargetError."""
        begin = time.monotonic()
        while True:
            now, visit = time.monotonic(), self._visit
            if visit is not None and visit.over.wait(_LOOK_S):
                return visit.result()
            if browser is not None and browser.ended is not None:
                raise TargetError(f"Chromium ended with code {browser.ended} before it was done", "try again")
            if now > end:
                raise TargetError("browser: the time limit is over", "give it fewer samples")
            if visit is None and now - begin > _COME_S:
                raise TargetError(f"no browser came within {_COME_S:.0f} s", "run it again and open the link")
            if visit is not None and now - visit.heard > _SILENT_S:
                hint = "keep the page open and the screen on, then run it again"
                raise TargetError(f"the browser has been silent for {_SILENT_S:.0f} s", hint)
            if visit is None:
                claimed.wait(_LOOK_S)


def open_browser(target: Target) -> Browser:
    """Raises TargetError for an address that is none."""
    return Browser(target)
