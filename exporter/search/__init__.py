"""Which layer needs how many bits: sensitivity of each, and the best plan within a budget of bytes."""

from __future__ import annotations

from exporter.search.run import Search, search
from exporter.search.types import Budget, Layer, Point

__all__ = ["Budget", "Layer", "Point", "Search", "search"]
