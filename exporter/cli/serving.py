"""kbit serve: the page stays open, one phone after the other, until Ctrl-C."""

from __future__ import annotations

import json as codec
import queue
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter.cli import links, tables
from exporter.cli.output import progress_bars, say
from targets.transports import browser

__all__ = ["serve", "set_up"]


def set_up() -> None:
    """Fetch the runtimes once."""
    with progress_bars() as progress:
        progress("fetch onnxruntime-web and LiteRT.js through npm", 0, None)
        folder = browser.set_up()
    say(f"runtimes for browsers are in {folder}")


def serve(bundle: Path, address: browser.Address, settings: browser.Settings, *, json: bool) -> None:
    """Print a link, then a result for every browser that was there; each that comes frees a new link for the next."""
    happened: queue.Queue[Mapping[str, Any] | None] = queue.Queue()  # a verdict, or None: the link is used up
    said = browser.Said(lambda visit: happened.put(None), happened.put)  # progress is on the phone
    with browser.Page(bundle, address, settings, said, reuse=True) as page:
        _loop(page, happened, json=json)


def _loop(page: browser.Page, happened: queue.Queue[Mapping[str, Any] | None], *, json: bool) -> None:
    if page.certificate is not None:
        sys.stderr.write(f"the browser will warn: the certificate is ours, SHA-256 {page.certificate.fingerprint}\n")
    links.show(page.link)
    sys.stderr.write("Ctrl-C ends it\n")
    try:
        while True:
            verdict = happened.get()
            if verdict is None:
                sys.stderr.write("a browser is at work; each link works once, the next is:\n")
                links.show(page.link)
            elif json:
                sys.stdout.write(codec.dumps(verdict) + "\n")
                sys.stdout.flush()
            else:
                say("", tables.browser(verdict["device"]), *tables.check(verdict))
    except KeyboardInterrupt:
        return
