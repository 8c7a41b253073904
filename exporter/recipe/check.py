"""Plain data against the tables: the first thing wrong, in one line that names its key."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from exporter.errors import RecipeError
from exporter.recipe import toml

__all__ = ["bare", "check", "expected", "meta", "struct", "suggest"]


def bare(kind: Any) -> Any:
    """The type without Annotated and without None."""
    if typing.get_origin(kind) is Annotated:
        return bare(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        rest = [k for k in typing.get_args(kind) if k is not type(None)]
        return bare(rest[0]) if len(rest) == 1 else kind
    return kind


def meta(kind: Any) -> msgspec.Meta:
    """What its Annotated says, also inside ``… | None``."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next((k for k in typing.get_args(kind) if typing.get_origin(k) is Annotated), kind)
    return next((m for m in getattr(kind, "__metadata__", ()) if isinstance(m, msgspec.Meta)), msgspec.Meta())


def struct(kind: Any) -> type[msgspec.Struct] | None:
    """The table that this type is, or None."""
    found = bare(kind)
    return found if isinstance(found, type) and issubclass(found, msgspec.Struct) else None


def expected(kind: Any) -> str:
    """What a value of this type may be, in words."""
    found, says = bare(kind), meta(kind)
    origin, args = typing.get_origin(found), typing.get_args(found)
    if origin is Literal:
        values = [toml.value(a) for a in args]
        return " or ".join(values) if len(values) < 3 else "one of " + ", ".join(values)
    if origin is list:
        size = f" of {says.min_length}" if says.min_length and says.min_length == says.max_length else ""
        return f"a list{size}, each {expected(args[0])}" + (", not empty" if says.min_length == 1 else "")
    if origin in (typing.Union, types.UnionType):
        return " or ".join(expected(a) for a in args if a is not type(None))
    words = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}.get(found, "a table")
    signs = ((">=", says.ge), (">", says.gt), ("<=", says.le), ("<", says.lt))
    limits = " and ".join(f"{sign} {limit}" for sign, limit in signs if limit is not None)
    return f"{words} {limits}".rstrip()


def suggest(word: str, known: Iterable[str]) -> str:
    """A hint when a known word is near, else nothing."""
    close = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def check(value: Any, kind: Any, where: str, at: str = "") -> None:
    """Raise RecipeError unless ``value`` is of type ``kind``. ``at`` is its key, ``where`` the file."""
    found = bare(kind)
    if isinstance(value, Mapping) and struct(kind) is not None:
        _check_table(value, found, where, at)
        return
    if isinstance(value, Mapping) and typing.get_origin(found) is dict:
        for name, item in value.items():
            check(item, typing.get_args(found)[1], where, _join(at, name))
        return
    if isinstance(value, list) and typing.get_origin(found) is list:
        for index, item in enumerate(value):
            check(item, typing.get_args(found)[0], where, f"{at}[{index}]")
    try:
        msgspec.convert(value, kind)
        numbers = value if isinstance(value, list) else [value]
        if all(math.isfinite(n) for n in numbers if isinstance(n, float)):
            return
    except msgspec.ValidationError:
        pass
    hint = suggest(value, typing.get_args(found)) if typing.get_origin(found) is Literal else ""
    raise RecipeError(f"{where}: {at} = {toml.value(value)}: expected {expected(kind)}", hint)


def _check_table(value: Mapping[str, Any], table: type[msgspec.Struct], where: str, at: str) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(table)}
    for name in value:
        if name not in fields:
            hint = suggest(name, fields) or f"known here: {', '.join(fields)}"
            raise RecipeError(f"{where}: unknown key {_join(at, name)}", hint)
    for name, field in fields.items():
        if name in value:
            check(value[name], field.type, where, _join(at, name))
        elif field.required and struct(field.type) is not None:
            check({}, field.type, where, _join(at, name))  # names the first key that is missing inside
        elif field.required:
            raise RecipeError(f"{where}: {_join(at, name)} is missing", f"expected {expected(field.type)}")
    try:
        msgspec.convert(value, table)
    except msgspec.ValidationError as error:  # every key is sound: a rule between keys (__post_init__)
        place = f"{where}: {at}" if at else where
        raise RecipeError(f"{place}: {str(error).partition(' - at ')[0]}") from error


def _join(at: str, name: str) -> str:
    return f"{at}.{toml.key(name)}" if at else toml.key(name)
