"""Where a bundle runs, and what went wrong there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Target", "TargetError"]


class TargetError(Exception):
    """One line for the user: what failed where, and what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(message, hint)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Target:
    """One device. transport: how to reach it ("local"; None: described, but not reachable yet)."""

    name: str
    description: str
    transport: str | None = None
    cpu: str = ""
    isa: tuple[str, ...] = ()
    memory_mb: int | None = None
    runtimes: tuple[str, ...] = ()
    source: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
