"""What each emulated board looks like from inside."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["BOARDS", "Board", "cores", "cpuinfo"]


@dataclass(frozen=True, slots=True)
class Board:
    """cpu: qemu's name; release: of the kernel; the rest as /proc/cpuinfo of the real board says it."""

    name: str
    model: str
    cpu: str
    release: str
    features: str
    variant: str
    part: str
    revision: str
    code: str


BOARDS = {
    board.name: board
    for board in (
        Board("pi4", "Raspberry Pi 4 Model B Rev 1.4", "cortex-a72", "6.12.25+rpt-rpi-v8",
              "fp asimd evtstrm crc32 cpuid", "0x0", "0xd08", "3", "c03114"),
        Board("pi5", "Raspberry Pi 5 Model B Rev 1.0", "cortex-a76", "6.12.25+rpt-rpi-2712",
              "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
              "0x4", "0xd0b", "1", "c04170"),
    )
}  # fmt: skip


def cores() -> int:
    """No more than the host has: onnxruntime pins a thread to each."""
    return min(4, os.cpu_count() or 1)


def cpuinfo(board: Board) -> str:
    """The text of /proc/cpuinfo. Without it LiteRT runs without XNNPACK; it must fit the emulated processor."""
    lines = []
    for number in range(cores()):
        lines += [
            f"processor\t: {number}", "BogoMIPS\t: 108.00", f"Features\t: {board.features}",
            "CPU implementer\t: 0x41", "CPU architecture: 8", f"CPU variant\t: {board.variant}",
            f"CPU part\t: {board.part}", f"CPU revision\t: {board.revision}", "",
        ]  # fmt: skip
    return "\n".join(
        [*lines, f"Revision\t: {board.code}", "Serial\t\t: 0000000000000000", f"Model\t\t: {board.model}", ""]
    )
