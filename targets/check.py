"""Run a bundle on a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from targets.agent import archive
from targets.agent.manifest import BrokenBundle, batch_of, verify
from targets.devices_table import get_target
from targets.judging import judged
from targets.locating import first_difference
from targets.transports import open_transport
from targets.transports.browser import Browser
from targets.transports.connection import Connection
from targets.types import Job, Progress, Target, TargetError, Transport

__all__ = ["bundle_files", "check", "quiet", "verified"]

_COMPARED = ("ssh", "adb", "emulated")  # transports whose outputs are held against this machine's


def quiet(step: str, done: int, total: int | None) -> None:
    """A Progress that shows nothing."""


def check(
    bundle: Path | str,
    on: str | Target = "host",
    *,
    samples: int = 0,
    threads: int = 1,
    limit_s: float = 3600.0,
    keep: bool = False,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Verify the bundle, run the checker on the target, and judge what it measured (docs/bundle-format.md, check.json).

    samples   evaluation samples at most; 0: all
    limit_s   the check is ended after this many seconds
    keep      leave the bundle's files on the device, so that the next check sends only what changed
    progress  called with (step, done, total)
    announce  called with the link that a phone shall open, where the target is a browser
    Raises TargetError: broken or altered bundle, unknown or unreachable target, no result.
    """
    folder, tell = Path(bundle), progress or quiet
    target = get_target(on) if isinstance(on, str) else on
    manifest = verified(folder)
    files = bundle_files(folder, manifest)
    options = {"samples": samples, "threads": threads, "runtimes": list(target.runtimes)}
    compared = target.transport in _COMPARED
    transport = open_transport(target)
    if isinstance(transport, Browser) and announce is not None:
        transport.announce = announce
    if isinstance(transport, Connection):
        transport.keep = keep
    with transport as device:
        device.push(files, tell)
        result = device.run(Job("check", {**options, "outputs": compared}, limit_s), tell)
        if compared:
            _compare(device, manifest, files, options, result, tell)
    return judged(folder, manifest, target, result)


def _compare(
    device: Transport,
    manifest: Mapping[str, Any],
    files: Mapping[str, Path],
    options: Mapping[str, Any],
    result: Mapping[str, Any],
    progress: Progress,
) -> None:
    """The same files here: how the outputs differ, into each artifact's ``host``; and the layer where that begins."""
    from targets.agent import comparing  # numpy: not before it is needed

    there = comparing.from_bytes(device.pull("outputs.npz"))
    with open_transport(get_target("host")) as here:
        here.push(files, quiet)
        here.run(Job("check", {**options, "latency": False, "outputs": True}), progress)
        found = comparing.differences(manifest, there, comparing.from_bytes(here.pull("outputs.npz")))
        for name, difference in found.items():
            beyond = difference.pop("beyond")
            result["artifacts"][name]["host"] = difference
            if beyond is None:
                continue
            layer = first_difference(device, here, name, beyond, batch_of(manifest), progress)
            where = "" if layer is None else f"; the first layer that differs is {layer.op} {layer.node!r}"
            difference["layer"] = None if layer is None else dataclasses.asdict(layer)
            result["artifacts"][name]["errors"].append(f"the outputs are other ones than on this machine{where}")


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
