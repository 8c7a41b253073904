"""The phone page: a bundle run in any browser by onnxruntime-web and LiteRT.js, and what came out of it judged here.

The page itself is in targets/agent/phone. server.py answers it, work.py says what it is given, visit.py what it sent.
"""

from __future__ import annotations

from targets.transports.browser.page import Address, Page, Said, lan_address
from targets.transports.browser.runtimes import set_up
from targets.transports.browser.transport import Browser, open_browser
from targets.transports.browser.work import Settings

__all__ = ["Address", "Browser", "Page", "Said", "Settings", "lan_address", "open_browser", "set_up"]
