"""Run a bundle on a target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from targets.agent import archive
from targets.agent.manifest import BrokenBundle, verify
from targets.devices_table import get_target
from targets.transports import local
from targets.types import Target, TargetError

__all__ = ["check"]


def check(
    bundle: Path | str,
    on: str | Target = "host",
    *,
    samples: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Verify the bundle, run its own checker on the target, and return the result (docs/bundle-format.md, check.json).

    samples   evaluation samples at most; 0: all
    progress  called with (step, done, total)
    Raises TargetError: broken or altered bundle, unknown or unreachable target, no result.
    """
    folder = Path(bundle)
    target = get_target(on) if isinstance(on, str) else on
    try:
        verify(folder)
    except BrokenBundle as error:
        raise TargetError(str(error)) from error
    if (folder / "check.pyz").read_bytes() != archive.build():
        # the manifest vouches for the file, but nothing vouches for the manifest: only run our own code
        raise TargetError(
            f"{folder}: check.pyz was not made by this version of kbit",
            "export again, or run it yourself if you trust it",
        )
    if target.transport != "local":
        raise TargetError(
            f"target {target.name!r} cannot be reached from here yet",
            f"copy the bundle there and run: python3 check.pyz ({target.description})",
        )
    return local.run_checker(folder, samples=samples, progress=progress)
