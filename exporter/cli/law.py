"""kbit law."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.options import Json, Results, Scheduler, Workers
from exporter.cli.output import print_json, progress_bars, say

__all__ = ["law"]


def law(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="with a law table: members, bits, groups")],
    out: Results,
    workers: Workers = None,
    scheduler: Scheduler = None,
    json: Json = False,
) -> None:
    """Measure a family of models at every width: quality against total bits, and what to take for each size."""
    from contextlib import suppress
    from json import loads

    from exporter.cli import recovery_tables
    from exporter.errors import MissingError
    from exporter.law import run_law, sentences
    from exporter.recipe import read_recipe
    from exporter.report import render_law

    wanted = read_recipe(recipe)
    with progress_bars() as progress:
        found = run_law(wanted, base=recipe.parent, out=out, progress=progress, workers=workers, scheduler=scheduler)
    with suppress(MissingError):  # plots are an extra
        render_law(out, wanted.name or recipe.stem)
    body = loads(found.to_json())
    if json:
        print_json(body)
        return
    pages = [path for path in (out / "law.json", out / "law.html") if path.is_file()]
    say(recovery_tables.law(found), *sentences(body), *(f"{path.suffix[1:]}  {path}" for path in pages))
