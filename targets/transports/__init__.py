"""The ways to a device, one file each; TRANSPORTS is the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from targets.transports.adb import open_adb
from targets.transports.browser import open_browser
from targets.transports.emulated import open_emulated
from targets.transports.local import open_local
from targets.transports.ssh import open_ssh
from targets.types import Target, TargetError, Transport

__all__ = ["TRANSPORTS", "open_transport"]

# Target.transport -> function that gives a Transport, not entered yet
TRANSPORTS: Mapping[str, Callable[[Target], Transport]] = {
    "local": open_local,
    "ssh": open_ssh,
    "adb": open_adb,
    "emulated": open_emulated,
    "browser": open_browser,
}


def open_transport(target: Target) -> Transport:
    """Use it in a ``with``. Raises TargetError when the target has no address."""
    if target.transport is None:
        hint = (
            f"give one: --on ssh://user@host, or a file {target.name}.toml with base and address (kbit targets --help)"
        )
        raise TargetError(f"target {target.name!r} is described, but no address is known", hint)
    if target.transport not in TRANSPORTS:
        raise TargetError(f"target {target.name!r}: transport {target.transport!r} is not built into this version")
    return TRANSPORTS[target.transport](target)
