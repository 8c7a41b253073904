"""The commands that keep or win back accuracy: lint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.app import Json
from exporter.cli.output import print_json, progress_bars, say

__all__ = ["register"]

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="as for kbit export")]


def register(app: typer.Typer) -> None:
    """Add the commands to kbit."""
    for command in (lint,):
        app.command()(command)


def lint(recipe: RecipeFile, json: Json = False) -> int:
    """Look at the calibration data before anything is quantized with them; the exit code is 1 for a finding."""
    from exporter import linting
    from exporter.cli import tables
    from exporter.recipe import read_recipe
    from exporter.subject import open_subject

    wanted = read_recipe(recipe)
    with progress_bars() as progress:
        progress("load", 0, None)
        subject = open_subject(wanted, recipe.parent)
        found = [dataclasses.asdict(each) for each in linting.lint(wanted, subject, subject.prepared(), progress)]
    if json:
        print_json({"findings": found})
    else:
        say(*(tables.findings(found) or ["nothing found"]))
    return 1 if found else 0
