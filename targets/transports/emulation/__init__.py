"""A Raspberry Pi in emulation: an arm64 userland with the real wheels under qemu-user, behind a real sshd (Linux)."""

from __future__ import annotations

from targets.transports.emulation.boards import BOARDS, Board, cpuinfo
from targets.transports.emulation.setup import cache_folder, prepare, remove

__all__ = ["BOARDS", "Board", "cache_folder", "cpuinfo", "prepare", "remove"]
