"""A short page of charts and one table, for results that are no bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from exporter.files import write_whole

__all__ = ["number", "write_sheet"]


def write_sheet(
    target: Path,
    title: str,
    says: str,
    figures: Sequence[tuple[str, str]],
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> Path:
    """figures: (caption, inline SVG). Cells that are numbers stand to the right. Returns ``target``."""
    style = resources.files("exporter.report").joinpath("style.css").read_text("utf-8")
    drawn = "\n".join(f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>" for caption, svg in figures)
    columns = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{escape(title)}</title><style>{style}</style></head><body>
<h1>{escape(title)}</h1>
<p class="soft">{escape(says)}</p>
{drawn}
<div class="scroll"><table><thead><tr>{columns}</tr></thead><tbody>
{body}
</tbody></table></div></body></html>
"""
    write_whole(target, page)
    return target


def number(value: float | None, digits: int = 2) -> str:
    """A cell; empty where nothing was measured."""
    return "" if value is None else f"{value:.{digits}f}"


def _cell(text: str) -> str:
    number = text[:1].isdigit() or text[:1] in {"-", "+", "."}
    return f"<td class='n'>{escape(text)}</td>" if number else f"<td>{escape(text)}</td>"
