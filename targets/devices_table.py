"""The devices that kbit knows: one TOML a device in targets/devices."""

from __future__ import annotations

import difflib
import tomllib
from importlib import resources

from targets.types import Target, TargetError

__all__ = ["get_target", "list_targets"]


def list_targets() -> list[Target]:
    """All of them, by name."""
    found = []
    for entry in sorted(resources.files("targets.devices").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".toml"):
            body = tomllib.loads(entry.read_text(encoding="utf-8"))
            body["isa"], body["runtimes"] = tuple(body.get("isa", ())), tuple(body.get("runtimes", ()))
            found.append(Target(entry.name.removesuffix(".toml"), **body))
    return found


def get_target(name: str) -> Target:
    """Raises TargetError for an unknown name."""
    targets = {t.name: t for t in list_targets()}
    if name not in targets:
        close = difflib.get_close_matches(name, targets, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(targets)}"
        raise TargetError(f"unknown target {name!r}", hint)
    return targets[name]
