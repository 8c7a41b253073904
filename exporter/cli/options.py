"""Flags for every key of the recipe, made from its tables."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from exporter.recipe import KEYS, Key

__all__ = ["Json", "Results", "Scheduler", "Workers", "recipe_flags"]

Json = Annotated[bool, typer.Option("--json", help="print JSON on stdout, and nothing else there")]
Results = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="folder for results; one with results is gone on with")
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="processes here; default one for each core")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="ADDRESS", help="of a Dask scheduler, in place of processes here")
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def recipe_flags(command: _Command) -> _Command:
    """Let the command's ``**flags`` take one option for each key, named by its argument; None when not given."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    command.__signature__ = signature.replace(parameters=[*own, *map(_parameter, KEYS)])  # type: ignore[attr-defined]
    return command


def _parameter(key: Key) -> inspect.Parameter:
    shown = f" (default {_words(key.default)})" if key.default not in (None, []) else ""
    option = typer.Option(
        key.flag,
        help=key.description + shown,
        metavar=_metavar(key),
        rich_help_panel=f"recipe: {key.path.partition('.')[0]}" if "." in key.path else "recipe",
        show_default=False,
    )
    kind = list[str] if key.is_list else str
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(key.argument, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _metavar(key: Key) -> str:
    if key.choices:
        return "|".join(key.choices)
    if key.is_path or key.is_list:
        return "PATH" if key.is_path else "NAME,…"
    kinds = [part.split(" >")[0].removeprefix("an ").removeprefix("a ") for part in key.expected.split(" or ")]
    return "|".join(
        kind.strip('"') if kind.startswith('"') or "true" in key.expected else kind.upper() for kind in kinds
    )


def _words(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, list) else str(default)
