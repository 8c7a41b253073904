"""Self-contained HTML pages: about a bundle, about a k-bit law."""

from __future__ import annotations

from exporter.report.law import render_law
from exporter.report.page import render

__all__ = ["render", "render_law"]
