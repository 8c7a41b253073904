"""Write TOML 1.0 (https://toml.io/en/v1.0.0); the standard library only reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["document", "key", "value"]


def document(body: Mapping[str, Any]) -> str:
    """Nested tables of strings, numbers, booleans and lists; the same data gives the same text."""
    return "\n".join(_table(body, ())).lstrip("\n") + "\n"


def key(name: str) -> str:
    """Bare where the format allows it, else quoted."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else value(name)


def value(data: Any) -> str:
    """One value on one line."""
    if isinstance(data, bool):
        return "true" if data else "false"
    if isinstance(data, str):  # JSON's escapes are also TOML's; only DEL, which JSON leaves as it is, is not allowed
        return json.dumps(data, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(data, (list, tuple)):
        return "[" + ", ".join(value(v) for v in data) + "]"
    if isinstance(data, Mapping):
        return "{" + ", ".join(f"{key(k)} = {value(v)}" for k, v in data.items()) + "}"
    return repr(data) if isinstance(data, float) else str(data)


def _table(body: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    leaves = {name: item for name, item in body.items() if not isinstance(item, Mapping) and not _is_tables(item)}
    if path and leaves:
        yield f"\n[{'.'.join(map(key, path))}]"
    for name, item in leaves.items():
        yield f"{key(name)} = {value(item)}"
    for name, item in body.items():
        if isinstance(item, Mapping):
            yield from _table(item, (*path, name))
        elif _is_tables(item):
            for each in item:
                yield f"\n[[{'.'.join(map(key, (*path, name)))}]]"
                yield from (f"{key(inner)} = {value(given)}" for inner, given in each.items())


def _is_tables(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(each, Mapping) for each in item)
