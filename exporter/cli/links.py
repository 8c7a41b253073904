"""A link for a phone: as text, and as a QR code where the library for it is installed."""

from __future__ import annotations

import io
import sys
from urllib.parse import urlsplit

__all__ = ["show"]


def show(link: str) -> None:
    """On stderr: results alone go to stdout."""
    if (urlsplit(link).hostname or "").startswith("127."):
        text = (
            f"open on this machine: {link}\n(a phone gets in with kbit serve --lan, or kbit check --on browser:lan)\n"
        )
    else:
        text = (_qr_code(link) if sys.stderr.isatty() else "") + f"open on the phone: {link}\n"
    sys.stderr.write(text)
    sys.stderr.flush()


def _qr_code(link: str) -> str:
    try:
        import segno
    except ImportError:
        return "(pip install 'kbit[phone]' shows a QR code here)\n"
    text = io.StringIO()
    segno.make(link, error="l").terminal(text, compact=True, border=2)
    white_on_black = "\x1b[97;40m{}\x1b[0m\n"  # whatever colours the terminal has
    return "".join(white_on_black.format(line) for line in text.getvalue().splitlines())
