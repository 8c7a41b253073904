"""A link for a phone: as text, and as a QR code where the library for it is installed."""

from __future__ import annotations

import io
import sys

__all__ = ["show"]


def show(link: str) -> None:
    """On stderr: results alone go to stdout."""
    code = _qr_code(link) if sys.stderr.isatty() else ""
    sys.stderr.write(f"{code}open on the phone: {link}\n")
    sys.stderr.flush()


def _qr_code(link: str) -> str:
    try:
        import segno
    except ImportError:
        return "(pip install 'kbit[phone]' shows a QR code here)\n"
    text = io.StringIO()
    segno.make(link, error="l").terminal(text, compact=True, border=2)
    return text.getvalue()
