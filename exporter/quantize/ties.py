"""Groups of values that must share one scale and zero point."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Ties"]


class Ties:
    """Union-find over value names; the first name of a group, in order of appearance, leads it."""

    def __init__(self, names: Iterable[str]) -> None:
        self._leader = {name: name for name in names}
        self._order = {name: i for i, name in enumerate(self._leader)}

    def __contains__(self, name: str) -> bool:
        return name in self._leader

    def leader(self, name: str) -> str:
        while self._leader[name] != name:
            self._leader[name] = self._leader[self._leader[name]]
            name = self._leader[name]
        return name

    def tie(self, names: Iterable[str]) -> None:
        """Put all these into one group."""
        leaders = sorted({self.leader(n) for n in names}, key=self._order.__getitem__)
        for other in leaders[1:]:
            self._leader[other] = leaders[0]

    def groups(self) -> dict[str, list[str]]:
        """Leader -> members, all in order of appearance."""
        found: dict[str, list[str]] = {}
        for name in self._leader:
            found.setdefault(self.leader(name), []).append(name)
        return found
