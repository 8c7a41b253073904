"""Where things are printed: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter import files

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Progress", "print_json", "progress_bars", "refuse_unwritable", "say"]

Progress = Callable[[str, int, int | None], None]

_WIDTH_OF_A_FILE = 140  # columns when stdout is no terminal


def say(*parts: RenderableType, err: bool = False) -> None:
    """Print results on stdout (``err``: on stderr); strings are taken as they are, without markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    console = Console(width=width, markup=False, highlight=False, emoji=False, stderr=err)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def print_json(body: object, path: str = "-") -> None:
    """Write JSON to stdout ("-") or to a file, all or nothing."""
    text = json.dumps(body, indent=1) + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    files.write_whole(Path(path), text)


def refuse_unwritable(*paths: Path | str | None) -> None:
    """Raise KbitError now, before anything is measured, for an output file that could not be written after it."""
    for path in paths:
        if path not in {None, "-"}:
            files.refuse_unwritable(Path(str(path)))


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A callable that shows (stage, done, total) as one bar a stage, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    tasks: dict[str, Any] = {}
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                for earlier in bars.tasks:  # stages without a count are done when the next one starts
                    bars.update(earlier.id, total=earlier.total or 1, completed=earlier.total or 1)
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show
