"""Results of a law as they come, kept in a journal."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from exporter.errors import KbitError
from exporter.journal import Journal
from exporter.law.types import Result

__all__ = ["Store"]

_NAME = "results.jsonl"


class Store:
    """results.jsonl in a folder. Opening it reads what an earlier run measured."""

    def __init__(self, folder: Path, heading: str) -> None:
        """``heading``: what was measured with; results of another heading are not mixed in.

        Raises KbitError where the folder holds a law of other data or settings, is damaged, or cannot be written.
        """
        self._journal = Journal(folder, heading, _NAME)
        try:
            found = [Result(**each) for each in self._journal.answers()]
        except TypeError as error:
            raise KbitError(f"{folder / _NAME} is of another version", "name another folder after --out") from error
        self.results = {result.key: result for result in found}

    def add(self, result: Result) -> None:
        """Written to the disk before this returns."""
        self._journal.add(result.key, asdict(result))
        self.results[result.key] = result
