"""Run a bundle on a target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targets.agent import archive
from targets.agent.judge import TIMED, judge
from targets.agent.manifest import BrokenBundle, file_hash, verify
from targets.devices_table import get_target
from targets.transports import open_transport
from targets.types import Job, Progress, Target, TargetError

__all__ = ["bundle_files", "check", "quiet", "verified"]

_TIMES = ("latency_ms", "load_ms", "first_ms")  # of an artifact: no clock of an emulated board means anything


def quiet(step: str, done: int, total: int | None) -> None:
    """A Progress that shows nothing."""


def check(
    bundle: Path | str,
    on: str | Target = "host",
    *,
    samples: int = 0,
    threads: int = 1,
    limit_s: float = 3600.0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Verify the bundle, run the checker on the target, and judge what it measured (docs/bundle-format.md, check.json).

    samples   evaluation samples at most; 0: all
    limit_s   the check is ended after this many seconds
    progress  called with (step, done, total)
    Raises TargetError: broken or altered bundle, unknown or unreachable target, no result.
    """
    folder, tell = Path(bundle), progress or quiet
    target = get_target(on) if isinstance(on, str) else on
    manifest = verified(folder)
    options = {"samples": samples, "threads": threads, "runtimes": list(target.runtimes)}
    with open_transport(target) as device:
        device.push(bundle_files(folder, manifest), tell)
        result = device.run(Job("check", options, limit_s), tell)
    return _judged(folder, manifest, target, result)


def verified(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle whose every file is the one it names, and whose checker is ours."""
    try:
        manifest: dict[str, Any] = verify(folder)
    except BrokenBundle as error:
        raise TargetError(str(error)) from error
    if (folder / "check.pyz").read_bytes() != archive.build():
        # the manifest vouches for the file, but nothing vouches for the manifest: only run our own code
        raise TargetError(
            f"{folder}: check.pyz was not made by this version of kbit",
            "export again, or run it yourself if you trust it",
        )
    return manifest


def bundle_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Path]:
    """The manifest and every file that it lists, by name."""
    names = [entry["path"] for entry in (*manifest["artifacts"], *manifest["files"])]
    return {name: folder / name for name in ("manifest.json", *names)}


def _judged(folder: Path, manifest: Mapping[str, Any], target: Target, result: dict[str, Any]) -> dict[str, Any]:
    """The device measures; the verdict is ours, and only about the files that we sent."""
    if result.get("manifest_sha256") != file_hash(folder / "manifest.json"):
        raise TargetError(f"{target.name}: the bundle was altered on the way", "run it again")
    sums = {a["name"]: a["sha256"] for a in manifest["artifacts"]}
    for name, figures in result["artifacts"].items():
        if figures.get("sha256") != sums.get(name):
            figures.setdefault("errors", []).append("the file on the device is another than was sent")
    gates = {key: limit for key, limit in (manifest.get("gates") or {}).items() if limit is not None}
    notes = list((result.get("conditions") or {}).get("notes") or [])
    if target.transport == "emulated":
        for figures in result["artifacts"].values():
            for key in _TIMES:
                figures.pop(key, None)
        for gate in (*TIMED, "max_temperature_c"):
            if gates.pop(gate, None) is not None:
                notes.append(f"gate {gate} was not judged: an emulated board has no clock or temperature to go by")
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
    return {"target": target.name, "passed": not reasons, "reasons": reasons, "notes": notes, **_rest(result)}


def _rest(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in {"passed", "reasons"}}
