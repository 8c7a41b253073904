"""Self-contained HTML pages: about a bundle, about a k-bit law, about a search, a sweep, a ladder."""

from __future__ import annotations

from exporter.report.law import render_law
from exporter.report.page import render
from exporter.report.search import render_search
from exporter.report.sweep import render_sweep
from exporter.report.tune import render_tune

__all__ = ["render", "render_law", "render_search", "render_sweep", "render_tune"]
