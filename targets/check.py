"""Run a bundle on a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from targets.agent import archive
from targets.agent.manifest import BrokenBundle, verify
from targets.devices_table import get_target
from targets.judging import judged
from targets.transports import open_transport
from targets.transports.browser import Browser
from targets.types import Job, Progress, Target, TargetError

__all__ = ["bundle_files", "check", "quiet", "verified"]


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
    announce: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Verify the bundle, run the checker on the target, and judge what it measured (docs/bundle-format.md, check.json).

    samples   evaluation samples at most; 0: all
    limit_s   the check is ended after this many seconds
    progress  called with (step, done, total)
    announce  called with the link that a phone shall open, where the target is a browser
    Raises TargetError: broken or altered bundle, unknown or unreachable target, no result.
    """
    folder, tell = Path(bundle), progress or quiet
    target = get_target(on) if isinstance(on, str) else on
    manifest = verified(folder)
    options = {"samples": samples, "threads": threads, "runtimes": list(target.runtimes)}
    transport = open_transport(target)
    if isinstance(transport, Browser) and announce is not None:
        transport.announce = announce
    with transport as device:
        device.push(bundle_files(folder, manifest), tell)
        result = device.run(Job("check", options, limit_s), tell)
    return judged(folder, manifest, target, result)


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
