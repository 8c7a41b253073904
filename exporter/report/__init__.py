"""One self-contained HTML page about a bundle."""

from __future__ import annotations

from exporter.report.page import render

__all__ = ["render"]
