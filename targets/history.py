"""Results over time, one line of JSON each, and whether the newer one is worse by more than the noise."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from targets.files import append_line
from targets.types import TargetError

__all__ = ["Change", "append", "compare", "entry", "latest", "read"]

_COUNTS = 0.005  # instruction counts of two set-ups differ by less


@dataclass(frozen=True, slots=True)
class Change:
    """One figure then and now.

    ratio  now over then; from low to high with 95 % confidence
    worse, better  by more than the noise and the tolerance
    """

    figure: str
    then: float
    now: float
    ratio: float
    low: float
    high: float
    worse: bool
    better: bool


def entry(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a bench.json or check.json: figures with their intervals, by artifact and thread count."""
    figures: dict[str, Any] = {}
    for setting in result.get("settings", ()):
        for name, facts in setting["artifacts"].items():
            key = f"{name}, {setting['threads']} thread{'s' if setting['threads'] > 1 else ''}, ms"
            figures[key] = {"value": facts["p50"], "low": facts["low"], "high": facts["high"]}
    for name, facts in result.get("artifacts", {}).items():
        if "instructions" in facts:
            count = facts["instructions"]["all"]
            figures[f"{name}, instructions"] = {
                "value": count,
                "low": count * (1 - _COUNTS),
                "high": count * (1 + _COUNTS),
            }
    device = result.get("device") or {}
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "bundle": result.get("bundle", ""),
        "target": result["target"],
        "cpu": device.get("cpu"),
        "packages": device.get("packages"),
        "trusted": result.get("trusted", True),
        "figures": figures,
    }


def append(path: Path, result: Mapping[str, Any]) -> None:
    """Add one line to the file; it is made when it is not there."""
    append_line(path, json.dumps(entry(result)))


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a history file, oldest first; a bench.json or check.json counts as one."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"cannot read {path}: {error}", "kbit bench writes such a file") from error
    try:
        whole = json.loads(text)
        if isinstance(whole, dict) and "figures" not in whole:
            return [entry(whole)]
    except (ValueError, KeyError):
        pass
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            body = json.loads(line)
            if not isinstance(body["figures"], dict) or not isinstance(body["target"], str):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise TargetError(f"{path}, line {number}: not an entry of a history", "kbit bench writes them") from error
        found.append(body)
    return found


def latest(entries: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The newest entry, and the newest before it of the same bundle, target and processor."""
    if not entries:
        raise TargetError("the history is empty", "run kbit bench twice")
    now = entries[-1]
    for then in reversed(entries[:-1]):
        if all(then.get(key) == now.get(key) for key in ("bundle", "target", "cpu")) and set(then["figures"]) & set(
            now["figures"]
        ):
            return then, now
    raise TargetError(
        f"nothing to compare with: one entry of {now.get('bundle')!r} on {now['target']!r}", "run it again"
    )


def compare(then: Mapping[str, Any], now: Mapping[str, Any], tolerance: float = 0.0) -> Iterator[Change]:
    """Every figure that both have. Worse: even the low end of the ratio's interval is above 1 + tolerance.

    The half widths of the two intervals, in logarithms, add as independent errors do.
    """
    for name, new in now["figures"].items():
        old = then["figures"].get(name)
        if old is None or not old["value"]:
            continue
        ratio = new["value"] / old["value"]
        up = ((new["high"] / new["value"] - 1) ** 2 + (old["value"] / max(old["low"], 1e-12) - 1) ** 2) ** 0.5
        down = ((new["value"] / max(new["low"], 1e-12) - 1) ** 2 + (old["high"] / old["value"] - 1) ** 2) ** 0.5
        low, high = ratio / (1 + down), ratio * (1 + up)
        yield Change(
            name, old["value"], new["value"], ratio, low, high, low > 1 + tolerance, high < 1 / (1 + tolerance)
        )
