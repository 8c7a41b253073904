"""search.json -> search.html: the front, and what each layer alone costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from exporter.errors import BundleError, MissingError

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
    style = resources.files("exporter.report").joinpath("style.css").read_text("utf-8")
    pairs = zip(found["layers"], found["best"]["widths"], strict=True)
    rows = "\n".join(
        f"<tr><td class='mono'>{escape(layer['weight'])}</td><td class='n'>{layer['values']:,}</td><td>{got}</td></tr>"
        for layer, got in pairs
    )
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>kbit search</title><style>{style}</style></head><body>
<h1>Bits by layer</h1>
<p class="soft">Budget {found["budget"]:,} bytes of weights; {len(found["points"])} plans compared.</p>
<figure><figcaption>Every plan that was measured; line: those that no other beats</figcaption>{front(found)}</figure>
<h2>Each layer alone</h2>
<figure><figcaption>Divergence when nothing but this layer is quantized; ring: what it got</figcaption>
{sensitivity(found)}</figure>
<div class="scroll"><table><thead><tr><th>Layer</th><th class="n">Values</th><th>Width</th></tr></thead><tbody>
{rows}</tbody></table></div></body></html>
"""
    target, partial = folder / "search.html", folder / ".search.html.partial"
    partial.write_text(page, "utf-8")
    partial.replace(target)
    return target
