"""Results as they come, one line each, in a file that survives being killed at any moment."""

from __future__ import annotations

import os
from pathlib import Path

from exporter.errors import KbitError
from exporter.law.types import Result

__all__ = ["Store"]


class Store:
    """results.jsonl in a folder. Opening it reads what an earlier run measured; a last line cut short is dropped."""

    def __init__(self, folder: Path, heading: str) -> None:
        """``heading``: what was measured with; results of another heading are not mixed in.

        Raises KbitError where the folder holds a law of other data or settings, or cannot be written.
        """
        self._path = folder / "results.jsonl"
        self.results: dict[str, Result] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lines = self._path.read_text("utf-8").split("\n") if self._path.is_file() else []
        except OSError as error:
            raise KbitError(f"cannot use {folder}: {error.strerror}", "name another folder after --out") from error
        if lines and lines[0] != heading:
            raise KbitError(f"{self._path} is of another recipe or other data", "name another folder after --out")
        for line in lines[1:-1]:  # what follows the last line break was cut off
            result = Result.from_json(line)
            self.results[result.key] = result
        kept = "".join(f"{line}\n" for line in [heading, *(r.to_json() for r in self.results.values())])
        self._path.write_text(kept, "utf-8")

    def add(self, result: Result) -> None:
        """Written to the disk before this returns."""
        self.results[result.key] = result
        with self._path.open("a", encoding="utf-8") as file:
            file.write(result.to_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
