"""Large numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MILLION", "predicted_latency", "scaled", "size"]

MILLION = 1_000_000


def scaled(number: float, units: Sequence[str], digits: int = 3) -> str:
    """``number`` in the first unit, each a thousand times the one before, in which it is below a thousand."""
    for unit in units[:-1]:
        if number < 1000:
            return f"{number:.{digits}g}{unit}"
        number /= 1000
    return f"{number:.{digits}g}{units[-1]}"


def size(count: float, digits: int = 3) -> str:
    """Bytes."""
    return scaled(count, (" B", " kB", " MB", " GB"), digits)


def predicted_latency(millionths: int, target: str) -> str:
    """As in "0.700 of float's latency on host, predicted"."""
    return f"{millionths / MILLION:.3f} of float's latency on {target}, predicted"
