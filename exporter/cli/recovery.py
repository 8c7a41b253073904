"""The commands that keep or win back accuracy: lint, search, sweep, tune."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.options import Json, Results, Scheduler, Workers
from exporter.cli.output import print_json, progress_bars, say

__all__ = ["register"]

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="as for kbit export")]


def register(app: typer.Typer) -> None:
    """Add the commands to kbit."""
    for command in (lint, search, sweep, tune):
        app.command()(command)


def lint(recipe: RecipeFile, json: Json = False) -> int:
    """Look at the calibration data before anything is quantized with them; the exit code is 1 for a finding."""
    from exporter import linting
    from exporter.cli import tables
    from exporter.errors import RecipeError
    from exporter.recipe import read_recipe
    from exporter.subject import open_subject

    wanted = read_recipe(recipe)
    if wanted.data.calibration is None and wanted.finetune.data is None:
        raise RecipeError(f"{recipe}: data.calibration is missing", "it names the samples to look at")
    with progress_bars() as progress:
        progress("load", 0, None)
        subject = open_subject(wanted, recipe.parent)
        subject.check_evaluation(wanted.data.metric)
        found = [dataclasses.asdict(each) for each in linting.lint(wanted, subject, subject.prepared(), progress)]
    if json:
        print_json({"findings": found})
    else:
        say(*(tables.findings(found) or ["nothing found"]))
    return 1 if found else 0


def search(
    recipe: RecipeFile,
    out: Results,
    average: Annotated[
        float | None, typer.Option("--average", metavar="BITS", help="the bytes that so many bits a weight would take")
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", min=1, metavar="N", help="of all weights, with scales and zero points")
    ] = None,
    max_latency: Annotated[
        float | None,
        typer.Option(
            "--max-latency", metavar="SHARE", help="of what the layers take in float on the target, predicted"
        ),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="TARGET", help="with --max-latency: kbit targets lists them")
    ] = None,
    runtime: Annotated[
        str, typer.Option("--runtime", metavar="NAME,…", help="with --max-latency: the slower of these counts")
    ] = "onnxruntime,tflite",
    widths: Annotated[
        str,
        typer.Option(
            "--widths",
            metavar="NAME,…",
            help="that a layer may have; default int2,int3,int4,int6,int8, with --max-latency int8,float",
        ),
    ] = "",
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="calibration samples to round with; others choose")
    ] = 256,
    workers: Workers = None,
    scheduler: Scheduler = None,
    json: Json = False,
) -> None:
    """Give each layer the bits that it needs, within a budget; writes a recipe for kbit export."""
    from contextlib import suppress
    from json import loads

    from exporter import search as searching
    from exporter.cli import recovery_tables
    from exporter.errors import MissingError
    from exporter.files import refuse_unwritable, write_whole
    from exporter.recipe import moved, read_recipe, to_dict, to_toml, with_overrides
    from exporter.report import render_search
    from exporter.subject import open_subject

    refuse_unwritable(out, folder=True)
    budget = searching.Budget(max_bytes, average, max_latency, on, tuple(runtime.split(",")))
    wanted = read_recipe(recipe)
    with progress_bars() as progress:
        progress("load", 0, None)
        found = searching.search(
            wanted, open_subject(wanted, recipe.parent), budget, out=out, samples=samples, progress=progress,
            widths=tuple(widths.split(",")) if widths else None, workers=workers, scheduler=scheduler,
        )  # fmt: skip
    overrides = [*(to_dict(each) for each in wanted.quantize.override), *found.overrides()]
    written = with_overrides(moved(wanted, recipe.parent, out), {"quantize.override": overrides})
    write_whole(out / "recipe.toml", to_toml(written))
    with suppress(MissingError):  # plots are an extra
        render_search(out)
    if json:
        print_json(loads(found.to_json()))
        return
    files = [out / name for name in ("search.json", "search.html", "recipe.toml")]
    say(*recovery_tables.search(found), *(f"{path.suffix[1:]}  {path}" for path in files if path.is_file()))


def sweep(
    recipe: RecipeFile,
    out: Results,
    bits: Annotated[
        str, typer.Option("--bits", metavar="A..B", help="1..8, 2,4,8; 1 is binary, 1.58 ternary")
    ] = "1..8",
    group: Annotated[str, typer.Option("--group", metavar="N,…", help="weights that share a scale")] = "",
    rounder: Annotated[str, typer.Option("--rounder", metavar="NAME,…", help="default: the recipe's")] = "",
    json: Json = False,
) -> None:
    """Make the recipe at every width: metric, bytes and latency of each file, one table, one plot."""
    from contextlib import suppress
    from json import loads

    from exporter import sweeping
    from exporter.cli import recovery_tables
    from exporter.errors import MissingError, RecipeError
    from exporter.recipe import read_recipe
    from exporter.report import render_sweep
    from exporter.subject import open_subject

    widths = sweeping.parse_bits(bits)
    groups = [part.strip() for part in group.split(",") if part.strip()]
    if not all(part.isdigit() for part in groups):
        raise RecipeError(f"--group {group}", "expected numbers, as in 16,32,64")
    rounders = [part.strip() for part in rounder.split(",") if part.strip()]
    wanted = read_recipe(recipe)
    with progress_bars() as progress:
        progress("load", 0, None)
        subject = open_subject(wanted, recipe.parent)
        found = sweeping.sweep(
            wanted, subject, widths, out=out, groups=list(map(int, groups)), rounders=rounders, progress=progress
        )
    body = loads(found.to_json())
    with suppress(MissingError):  # plots are an extra
        render_sweep(out, body)
    if json:
        print_json(body)
        return
    files = [out / name for name in ("sweep.json", "sweep.html")]
    say(*recovery_tables.sweep(found), *(f"{path.suffix[1:]}  {path}" for path in files if path.is_file()))


def tune(
    recipe: RecipeFile,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder for the recipe that passes")],
    json: Json = False,
) -> int:
    """When a gate fails: try remedies, the cheapest first, measure each, stop at the first that passes."""
    from contextlib import suppress
    from json import loads

    from exporter import tuning
    from exporter.cli import recovery_tables
    from exporter.errors import MissingError
    from exporter.recipe import read_recipe
    from exporter.report import render_tune
    from exporter.subject import open_subject

    wanted = read_recipe(recipe)
    with progress_bars() as progress:
        progress("load", 0, None)
        subject = open_subject(wanted, recipe.parent)
        found = tuning.tune(wanted, subject, base=recipe.parent, out=out, progress=progress)
    body = loads(found.to_json())
    with suppress(MissingError):  # plots are an extra
        render_tune(out, body, wanted.gates.max_drop)
    if json:
        print_json(body)
    else:
        files = [out / name for name in ("recipe.toml", "tune.json", "tune.html")]
        say(*recovery_tables.tuning(found), *(f"{path.suffix[1:]}  {path}" for path in files if path.is_file()))
    return 0 if found.passed else 1
