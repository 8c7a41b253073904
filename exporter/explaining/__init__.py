"""Why a quantized network is worse than the float one: each layer's share, and causes with their remedies."""

from __future__ import annotations

from exporter.explaining.causes import Cause, causes
from exporter.explaining.shares import Share, shares

__all__ = ["Cause", "Share", "causes", "shares"]
