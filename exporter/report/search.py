"""search.json -> search.html: the front, and what each layer alone costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exporter.errors import BundleError, MissingError
from exporter.report.sheet import write_sheet
from exporter.units import predicted_latency

__all__ = ["render_search"]


def render_search(folder: Path) -> Path:
    """Write the page beside search.json and return its path. Raises MissingError without the extra ``report``."""
    try:
        from exporter.report.search_chart import front, sensitivity
    except ImportError as error:
        raise MissingError(
            f"the page needs {error.name}, which is not installed", "pip install 'kbit[report]'"
        ) from error
    try:
        found: Mapping[str, Any] = json.loads((folder / "search.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder} has no search.json, or it is damaged", "run kbit search again") from error
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
