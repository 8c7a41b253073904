"""search.json -> search.html: the front, and what each layer alone costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter.report.needs import read_result, the_extra
from exporter.report.sheet import write_sheet
from exporter.units import predicted_latency

__all__ = ["render_search"]


def render_search(folder: Path) -> Path:
    """Write the page beside search.json and return its path. Raises MissingError without the extra ``report``."""
    with the_extra():
        from exporter.report.search_chart import front, sensitivity
    found: Mapping[str, Any] = read_result(folder / "search.json", "kbit search")
    figures = [
        ("Every plan that was measured; line: those that no other beats; ring: the one taken", front(found)),
        ("Divergence when nothing but one layer is quantized; ring: the width it got", sensitivity(found)),
    ]
    pairs = zip(found["layers"], found["best"]["widths"], strict=True)
    rows = [[layer["weight"], f"{layer['values']:,}", width] for layer, width in pairs]
    budget = f"{found['budget']:,} bytes of weights"
    if found["target"] is not None:
        budget = predicted_latency(found["budget"], found["target"])
    says = f"Budget {budget}; {len(found['points'])} plans compared."
    return write_sheet(folder / "search.html", "Bits by layer", says, figures, ["Layer", "Values", "Width"], rows)
