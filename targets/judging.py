"""The verdict over what a target measured: ours, whatever the device says, and only about the files that we sent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targets.agent.judge import TIMED, judge
from targets.agent.manifest import file_hash
from targets.types import Target, TargetError

__all__ = ["judged"]

# of an artifact: no clock of an emulated board means anything, and the memory is the emulator's
_EMULATOR = (
    "latency_ms", "load_ms", "first_ms", "first_token_ms", "prefill_rate", "decode_rate", "peak_bytes",
    "model_peak_bytes",
)  # fmt: skip
# transport -> gates that it cannot stand for the device in, and why
_LEFT = {
    "emulated": ((*TIMED, "max_temperature_c", "max_peak_bytes"), "an emulated board says nothing about it"),
    "browser": ((*TIMED, "max_temperature_c", "max_peak_bytes"), "what a browser measures is not the device's own"),
}


def judged(folder: Path, manifest: Mapping[str, Any], target: Target, result: Mapping[str, Any]) -> dict[str, Any]:
    """check.json of a bundle from what came back (docs/bundle-format.md). Raises TargetError for another bundle's."""
    if result.get("manifest_sha256") != file_hash(folder / "manifest.json"):
        raise TargetError(f"{target.name}: the bundle was altered on the way", "run it again")
    sums = {a["name"]: a["sha256"] for a in manifest["artifacts"]}
    for name, figures in result["artifacts"].items():
        if figures.get("sha256") != sums.get(name):
            figures.setdefault("errors", []).append("the file on the device is another than was sent")
    gates = {key: limit for key, limit in (manifest.get("gates") or {}).items() if limit is not None}
    notes = list((result.get("conditions") or {}).get("notes") or [])
    if not gates:
        notes.append("no gate is set: however much was lost, it passes")
    if target.transport == "emulated":
        for figures in result["artifacts"].values():
            for key in _EMULATOR:
                figures.pop(key, None)
    left, why = _LEFT.get(target.transport or "", ((), ""))
    for gate in left:
        if gates.pop(gate, None) is not None:
            notes.append(f"gate {gate} was not judged: {why}")
    candidates = [
        a["name"] for a in manifest["artifacts"] if a["role"] == "candidate" and a["name"] in result["artifacts"]
    ]
    for artifact in manifest["artifacts"]:
        if artifact["role"] == "candidate" and artifact["name"] not in candidates:
            notes.append(f"{artifact['name']} was not checked: {target.name} has no runtime {artifact['runtime']}")
    figures = {name: result["artifacts"][name] for name in candidates}
    reasons = judge(gates, figures, result.get("agreement"), result.get("conditions"))
    if not candidates:
        reasons.append("no artifact was checked")
    rest = {key: value for key, value in result.items() if key not in {"passed", "reasons"}}
    return {
        "bundle": manifest["name"],
        "target": target.name,
        "passed": not reasons,
        "reasons": reasons,
        "notes": notes,
        **rest,
    }
