"""What tables are made of: an empty table, and how a number is written in a cell."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from exporter.units import size

__all__ = ["FEW", "counted", "decimal", "empty_table", "file_size", "millions", "span"]

FEW = 40  # rows of a long table that people are shown; --json has them all


def empty_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; ``right``: columns of numbers that stand to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in right else "left")
    return table


def counted(counts: Mapping[str, int]) -> str:
    """name count, name count."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def span(low: str, high: str) -> str:
    """Two ends, or the one that both are."""
    return low if low == high else f"{low} … {high}"


def decimal(value: float | None, digits: int) -> str:
    """So many digits, zeros behind the point left out of more than three; empty for what was not measured."""
    return (
        "" if value is None else f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits > 3 else f"{value:.{digits}f}"
    )


def millions(count: float | None) -> str:
    """As 1.23 M."""
    return "" if count is None else f"{count / 1e6:.2f} M"


def file_size(count: float | None) -> str:
    """Bytes with a unit."""
    return "" if count is None else size(count)
