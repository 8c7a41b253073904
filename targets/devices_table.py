"""The devices that kbit knows: one TOML a device in targets/devices, and users' own files and addresses."""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from targets.addresses import ADDRESSES, parse_address
from targets.types import Target, TargetError

__all__ = ["get_target", "list_targets", "user_folder"]

_FIELDS = {f.name: f for f in dataclasses.fields(Target) if f.name not in {"name", "base"}}
_KINDS: dict[str, tuple[type, str]] = {
    "cores": (int, "a whole number"),
    "memory_mb": (int, "a whole number of MB"),
    "isa": (list, 'a list, as in ["neon", "dotprod"]'),
    "runtimes": (dict, 'a table, as in {onnxruntime = "1.18"}'),
}
_TRANSPORTS = ("local", "ssh", "adb", "emulated", "browser")


def user_folder() -> Path:
    """Where users keep their own target files: ``~/.config/kbit/targets`` (XDG_CONFIG_HOME is heeded)."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "kbit" / "targets"


def list_targets(beside: Path | str | None = None) -> list[Target]:
    """All of them, by name: kbit's own, the user's, and those in the folder ``targets`` beside a recipe.

    beside  folder of the recipe; default the current one
    A later file may take an earlier one's name. Raises TargetError for a file that says something else.
    """
    shipped = {
        entry.name.removesuffix(".toml"): _target(entry.name.removesuffix(".toml"), entry.read_text("utf-8"), {})
        for entry in resources.files("targets.devices").iterdir()
        if entry.name.endswith(".toml")
    }
    found = dict(shipped)
    for path in _user_files(beside):
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TargetError(f"{path}: cannot be read ({error})", "mend or remove the file") from error
        found[path.stem] = _target(path.stem, text, found, where=str(path))
    return sorted(found.values(), key=lambda t: t.name)


def get_target(name: str, beside: Path | str | None = None) -> Target:
    """A target by name or address (local, ssh://user@host, adb:SERIAL, emulated:pi5, browser).

    beside  folder of the recipe, whose ``targets/*.toml`` count too; default the current one
    Raises TargetError for an unknown name.
    """
    address = parse_address(name)
    if isinstance(address, Target):
        return address
    targets = {t.name: t for t in list_targets(beside)}
    if address in targets:
        return targets[address]
    close = difflib.get_close_matches(name, targets, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(targets)}; or {', '.join(ADDRESSES)}"
    raise TargetError(f"unknown target {name!r}", hint)


def _user_files(beside: Path | str | None) -> Iterator[Path]:
    for folder in (user_folder(), Path(beside or ".") / "targets"):
        yield from sorted(folder.glob("*.toml"))


def _target(name: str, text: str, known: Mapping[str, Target], where: str = "") -> Target:
    where = where or f"{name}.toml"
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"{where} is not TOML: {error}", "mend the file") from error
    base = body.pop("base", None)
    if base is not None and base not in known:
        raise TargetError(f"{where}: base = {base!r} is no known target", f"known: {', '.join(sorted(known))}")
    facts: dict[str, Any] = {} if base is None else {key: getattr(known[base], key) for key in _FIELDS}
    for key, value in body.items():
        facts[key] = _checked(where, key, value)
    address = facts.get("address", "")
    if "://" in address or address.partition(":")[0] in {"adb", "emulated"}:  # "ssh://pi@host" says both
        parsed = parse_address(address)
        if isinstance(parsed, Target):
            facts |= {"transport": parsed.transport, "address": parsed.address}
    facts.setdefault("description", address or name)
    if facts.get("transport") not in (None, *_TRANSPORTS):
        raise TargetError(f"{where}: transport = {facts['transport']!r}", f"expected {', '.join(_TRANSPORTS)}")
    return Target(name, **facts, base="" if base is None else known[base].base or base)


def _checked(where: str, key: str, value: Any) -> Any:
    if key not in _FIELDS:
        close = difflib.get_close_matches(key, [*_FIELDS, "base"], 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: base, {', '.join(_FIELDS)}"
        raise TargetError(f"{where}: unknown key {key!r}", hint)
    kind, expected = _KINDS.get(key, (str, "text in quotes"))
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TargetError(f"{where}: {key} = {value!r}", f"expected {expected}")
    members: Any = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    if not all(isinstance(each, str) for each in members):
        raise TargetError(f"{where}: {key} = {value!r}", f"expected {expected}")
    return tuple(members) if kind is list else value
