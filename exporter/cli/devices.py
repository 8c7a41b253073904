"""The commands about devices: bench, compare, doctor, targets."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exporter.cli.options import Json
from exporter.cli.output import print_json, progress_bars, refuse_unwritable, say
from exporter.errors import KbitError

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["register", "seconds"]

On = Annotated[str, typer.Option("--on", metavar="TARGET", help="where to run; kbit targets lists them")]


def register(app: typer.Typer) -> None:
    """Add the commands to kbit."""
    for command in (bench, compare, doctor, targets):
        app.command()(command)


def bench(
    bundle: Annotated[Path, typer.Argument(metavar="DIR", help="a bundle, made by kbit export")],
    on: On = "host",
    threads: Annotated[str, typer.Option("--threads", metavar="N,…", help="default: 1 and all cores")] = "",
    precision: Annotated[str, typer.Option("--precision", metavar="SHARE", help="half width of the interval")] = "1%",
    time: Annotated[str, typer.Option("--time", metavar="SPAN", help="of sampling, for each thread count")] = "60s",
    sustained: Annotated[
        str, typer.Option("--sustained", metavar="SPAN", help="also run one artifact for so long, as in 10m")
    ] = "",
    artifact: Annotated[str, typer.Option("--artifact", metavar="NAME", help="the one to run sustained")] = "",
    history: Annotated[
        Path | None, typer.Option("--history", metavar="FILE", help="where results add up (beside the bundle)")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="write JUnit XML")] = None,
    json: Json = False,
) -> int:
    """Measure latency so that it can be trusted; a throttled or noisy run says so and does not pass."""
    from exporter import bundle as bundles
    from exporter.cli import device_tables
    from targets import history as histories
    from targets.bench import Wish
    from targets.bench import bench as measure
    from targets.reporting import write_summary

    wish = Wish(
        _threads(threads), _share(precision), seconds=seconds(time),
        sustained=seconds(sustained) if sustained else 0.0, artifact=artifact,
    )  # fmt: skip
    place = history or bundle.resolve().parent / "kbit-history.jsonl"
    refuse_unwritable(place, junit)
    bundles.claim_result(bundle, "bench.json")
    with progress_bars() as progress:
        result = measure(bundle, on, wish, progress=progress)
    bundles.add_result(bundle, "bench.json", result)
    histories.append(place, result)
    for line in write_summary(result, result["bundle"], junit):
        typer.echo(line, err=True)
    if json:
        print_json(result)
    else:
        say(*device_tables.bench(result), f"history  {place}")
    return 0 if result["passed"] else 1


def compare(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE [FILE]", help="a history; or two results: the older, the newer")
    ],
    tolerance: Annotated[
        str, typer.Option("--tolerance", metavar="SHARE", help="what may be lost on top of noise")
    ] = "0%",
    json: Json = False,
) -> int:
    """Is the newest result worse than the one before it, by more than the noise? Then the exit code is 1."""
    from exporter.cli import device_tables
    from targets import history

    if len(files) > 2:
        raise KbitError(f"{len(files)} files", "give one history, or two results: the older, the newer")
    pair = [history.read(path)[-1] for path in files]
    then, now = pair if len(files) == 2 else history.latest(history.read(files[0]))
    changes = list(history.compare(then, now, _share(tolerance)))
    if not changes:
        raise KbitError("the two results have no figure in common", "compare runs of one bundle on one target")
    if json:
        print_json({"then": then["when"], "now": now["when"], "changes": [dataclasses.asdict(c) for c in changes]})
    else:
        say(*device_tables.changes(then, now, changes))
    return 1 if any(change.worse for change in changes) else 0


def doctor(on: On = "host", json: Json = False) -> int:
    """Say what a device has and lacks: Python, runtimes, wheels, known-bad pairs; each finding with its fix."""
    from exporter.cli import device_tables
    from targets.doctor import examine

    with progress_bars() as progress:
        facts, findings = examine(on, progress)
    if json:
        print_json({"facts": facts, "findings": [dataclasses.asdict(f) for f in findings]})
    else:
        say(*device_tables.findings(findings))
    return 1 if any(finding.level == "bad" for finding in findings) else 0


def targets(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME | probe NAME | remove-boards]", help="what to do; default: list"),
    ] = None,
    json: Json = False,
) -> None:
    """List the targets, show one, measure what widths buy on one (probe), or remove the emulated boards' files."""
    from exporter.cli import device_tables
    from targets import get_target, list_targets

    match words or ["list"]:
        case ["list"]:
            found = list_targets()
            _show([device_tables.target_facts(each) for each in found], device_tables.targets(found), json)
        case ["remove-boards"]:
            from targets.transports.emulation import remove

            folder = remove()
            _show({"removed": str(folder)}, [f"removed  {folder}"], json)
        case ["probe", name]:
            from exporter.probing import probe

            with progress_bars() as progress:
                rows, place = probe(name, progress)
            _show(
                [dataclasses.asdict(row) for row in rows], [*device_tables.capabilities(rows), f"saved  {place}"], json
            )
        case [name]:
            from targets.capabilities import capabilities

            one = get_target(name)
            rows = capabilities(one)
            facts = device_tables.target_facts(one) | {"capabilities": [dataclasses.asdict(row) for row in rows]}
            _show([facts], [*device_tables.target(one), *device_tables.capabilities(rows)], json)
        case _:
            raise KbitError(f"kbit targets {' '.join(words or [])}", "expected a name, probe NAME, or remove-boards")


def _show(body: object, parts: Sequence[RenderableType], json: bool) -> None:
    if json:
        print_json(body)
    else:
        say(*parts)


def _threads(text: str) -> tuple[int, ...]:
    if not text:
        return ()
    found = text.split(",")
    if not all(part.strip().isdigit() and 0 < int(part) <= 256 for part in found):
        raise KbitError(f"--threads {text}", "expected numbers from 1 on, as in 1,4")
    return tuple(sorted({int(part) for part in found}))


def _share(text: str) -> float:
    """ "1%" or "0.01" -> 0.01."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)", text.strip())
    if not found or not (value := float(found[1]) / (100 if found[2] else 1)) < 1:
        raise KbitError(f"{text!r} is no share", "expected 1% or 0.01")
    return value


def seconds(text: str) -> float:
    """ "90", "90s", "10m" or "1h" -> seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smh]?)", text.strip())
    if not found or float(found[1]) <= 0:
        raise KbitError(f"{text!r} is no span of time", "expected 90s, 10m or 1h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
