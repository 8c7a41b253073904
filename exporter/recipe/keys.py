"""Every key of the recipe as a flag and a Python argument, and recipes with some keys changed."""

from __future__ import annotations

import os
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from exporter.errors import RecipeError
from exporter.recipe.check import bare, expected, meta, struct, suggest
from exporter.recipe.files import from_dict, read_recipe, to_dict
from exporter.recipe.tables import Model, Recipe

__all__ = [
    "KEYS",
    "Key",
    "from_command",
    "is_callable_name",
    "moved",
    "parse_input",
    "parse_setting",
    "with_arguments",
    "with_overrides",
]


@dataclass(frozen=True, slots=True)
class Key:
    """One key with a flag of its own: every one that is not below a table of free names.

    path      dotted, as in the file          argument  Python argument; the flag is the same with dashes
    expected  what a value may be, in words   is_path   a file or folder
    """

    path: str
    argument: str
    expected: str
    default: Any
    description: str
    is_path: bool
    type: Any

    @property
    def flag(self) -> str:
        return "--" + self.argument.replace("_", "-")

    @property
    def is_list(self) -> bool:
        return typing.get_origin(bare(self.type)) is list

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it, or each entry of its list, may be; empty when free."""
        kind = bare(self.type)
        kind = bare(typing.get_args(kind)[0]) if self.is_list else kind
        return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()

    def parse_typed(self, typed: str | Sequence[str]) -> Any:
        """The value of a flag: a string as it is, lists split at commas and joined, anything else as in TOML."""
        if not isinstance(typed, str):
            parts = [part.strip() for text in typed for part in text.split(",") if part.strip()]
            whole = self.is_list and bare(typing.get_args(bare(self.type))[0]) is int
            return [int(part) if whole and re.fullmatch(r"-?\d+", part) else part for part in parts]
        if bare(self.type) is str or self.choices:
            return typed
        try:
            return tomllib.loads(f"value = {typed}")["value"]
        except tomllib.TOMLDecodeError:
            return typed  # the check of its type says what was expected


def with_overrides(recipe: Recipe, overrides: Mapping[str, Any], where: str = "overrides") -> Recipe:
    """The recipe with some keys changed: {"quantize.weights": "float"}, or nested tables; None restores the default.

    Raises RecipeError, which names ``where``.
    """
    body = to_dict(recipe)
    for path, value in overrides.items():
        nested: Any = value
        for part in reversed(path.split(".")):
            nested = {part: nested}
        _merge(body, nested)
    return from_dict(body, where)


def with_arguments(recipe: Recipe | None, arguments: Mapping[str, Any], where: str = "arguments") -> Recipe:
    """The recipe with Python arguments on top (weights="int8", max_drop=0.5); None builds a new one.

    Besides the leaves there are ``inputs`` and ``preprocess``, by input name, and ``override``. None means not given.
    """
    paths = {key.argument: key.path for key in KEYS} | _FREE
    for argument in arguments:
        if argument not in paths:
            raise RecipeError(f"{where}: unknown argument {argument!r}", suggest(argument, paths))
    given = {paths[name]: msgspec.to_builtins(value) for name, value in arguments.items() if value is not None}
    if recipe is None:
        if "model.source" not in given:
            raise RecipeError(f"{where}: model.source is missing", "give a recipe or a model")
        recipe = Recipe(Model(given.pop("model.source")))
    return with_overrides(recipe, given, where)


def from_command(
    source: str, flags: Mapping[str, str | Sequence[str] | None], inputs: Sequence[str], settings: Sequence[str]
) -> tuple[Recipe, Path]:
    """The recipe that a command line amounts to, and the folder that its paths are relative to.

    source    RECIPE.toml, or a model for a recipe of its own (relative to the current folder)
    flags     by argument name, as typed; None when not given
    inputs    NAME=DIMS[:DTYPE]        settings  KEY=VALUE in TOML; they come last
    """
    from_file = source.endswith(".toml")
    base = Path(source).parent if from_file else Path()
    recipe = read_recipe(source) if from_file else Recipe(Model(source))
    keys = {key.argument: key for key in KEYS}
    given = {name: keys[name].parse_typed(typed) for name, typed in flags.items() if typed}
    for name, value in given.items():
        if keys[name].is_path and not is_callable_name(value):
            given[name] = os.path.relpath(value, base)  # typed from the current folder, stored from the recipe's
    recipe = with_arguments(recipe, given | {"inputs": dict(map(parse_input, inputs)) or None}, "command line")
    for text in settings:
        recipe = with_overrides(recipe, parse_setting(text), "--set")
    return recipe, base


def moved(recipe: Recipe, base: Path, folder: Path) -> Recipe:
    """The same recipe as a file in ``folder``: paths that were relative to ``base`` lead to the same places from there.

    A module beside the recipe becomes a path to its file; a package that is installed stays a name.
    """
    body, changes = to_dict(recipe), {}
    for key in KEYS:
        found: Any = body
        for part in key.path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if key.is_path and found:
            one = [_moved(name, base, folder) for name in (found if key.is_list else [found])]
            changes[key.path] = one if key.is_list else one[0]
    return with_overrides(recipe, changes)


def _moved(name: str, base: Path, folder: Path) -> str:
    if is_callable_name(name):
        module, _, attribute = name.partition(":")
        file = Path(*module.split(".")).with_suffix(".py")
        if not (base / file).is_file():
            return name
        name = f"{file}:{attribute}"
    return Path(os.path.relpath(base / name, folder)).as_posix()


def is_callable_name(source: str) -> bool:
    """Whether ``source`` is module:callable rather than a path (C:\\model.onnx is a path)."""
    return re.fullmatch(r"[A-Za-z_][\w.]+:[A-Za-z_][\w.]*", source) is not None


def parse_setting(text: str) -> dict[str, Any]:
    """``data.preprocess.image.scale=0.0039``, one line of TOML, as nested tables."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error).partition(" (at ")[0]
        raise RecipeError(f"--set {text}: not KEY=VALUE in TOML: {reason}", "strings need quotes") from error


def parse_input(text: str) -> tuple[str, dict[str, Any]]:
    """``image=batch,3,32,32:float32`` as a name and its table under model.inputs; float32 when left out."""
    name, equals, spec = text.rpartition("=")
    if not equals or not name:
        raise RecipeError(f"--input {text}: expected NAME=DIM,DIM,…[:DTYPE]", "as in image=batch,3,32,32:float32")
    dims, _, dtype = spec.partition(":")
    parts = [part.strip() for part in dims.split(",")] if dims else []
    shape = [int(part) if re.fullmatch(r"-?\d+", part) else part for part in parts]
    return name, {"shape": shape, "dtype": dtype or "float32"}


def _merge(body: dict[str, Any], change: Mapping[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, Mapping) and isinstance(body.setdefault(name, {}), dict):
            _merge(body[name], value)
        elif value is None:
            body.pop(name, None)
        else:
            body[name] = value


def _leaves(table: type[msgspec.Struct], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for field in msgspec.structs.fields(table):
        inner = struct(field.type)
        if inner is not None:
            yield from _leaves(inner, (*path, field.name))
        elif not _is_free(field.type):
            yield (*path, field.name), field


def _is_free(kind: Any) -> bool:
    """A table of free names, or a list of tables: no flag of its own."""
    found = bare(kind)
    args = typing.get_args(found)
    return typing.get_origin(found) is dict or (typing.get_origin(found) is list and struct(args[0]) is not None)


def _keys() -> Iterator[Key]:
    leaves = list(_leaves(Recipe, ()))
    names = [path[-1] for path, _ in leaves]
    for path, field in leaves:
        says = meta(field.type)
        extra = says.extra or {}
        argument = extra["argument"] or (path[-1] if names.count(path[-1]) == 1 else "_".join(path))
        default = None if field.required else field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        description = says.description or ""
        yield Key(".".join(path), argument, expected(field.type), default, description, extra["path"], field.type)


_FREE = {"inputs": "model.inputs", "preprocess": "data.preprocess", "override": "quantize.override"}
KEYS: tuple[Key, ...] = tuple(_keys())
