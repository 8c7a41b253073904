"""law.json -> law.html: the curves, the frontier, which model for which size."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from exporter.files import write_whole
from exporter.law.words import sentences
from exporter.report.needs import read_result, the_extra
from exporter.units import size

__all__ = ["render_law"]


def render_law(folder: Path, title: str) -> Path:
    """Write the page beside law.json and return its path. Raises MissingError without the extra ``report``."""
    with the_extra():
        import jinja2

        from exporter.report.law_chart import curves
    law = read_result(folder / "law.json", "kbit law")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["size"] = size
    here = resources.files("exporter.report")
    best = {(row["member"], row["bits"], row["group"]) for row in law["frontier"]}
    page = environment.from_string(here.joinpath("law.html.j2").read_text("utf-8")).render(
        style=here.joinpath("style.css").read_text("utf-8"),
        title=title,
        law=law,
        charts=[curves(law, fit) for fit in law["fits"]] or [curves(law, None)],
        sentences=sentences(law),
        on_frontier=best,
    )
    target = folder / "law.html"
    write_whole(target, page)
    return target
