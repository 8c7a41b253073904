"""Results as they come, one line each, in a file that survives being killed at any moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from exporter.errors import KbitError
from exporter.files import append_line, write_whole, writing

__all__ = ["Journal"]


class Journal:
    """A file of lines in a folder: what was measured, by its question. Who asks again finds it here."""

    def __init__(self, folder: Path, heading: str, name: str = "journal.jsonl") -> None:
        """``heading``: what was measured with. Raises KbitError for a journal of another one."""
        self._path = folder / name
        self._known: dict[str, Any] = {}
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            lines = self._path.read_text("utf-8").split("\n") if self._path.is_file() else []
            if lines and lines[0] != heading:
                raise KbitError(
                    f"{self._path} is of another recipe, other data or other options", "name another folder after --out"
                )
            kept = [heading]
            for line in lines[1:-1]:  # what follows the last line break was cut off
                question, answer = json.loads(line)
                self._known[json.dumps(question)] = answer
                kept.append(line)
        except (ValueError, TypeError) as error:
            raise KbitError(f"{self._path} is damaged", "remove it, or name another folder after --out") from error
        write_whole(self._path, "".join(f"{line}\n" for line in kept))

    def __contains__(self, question: Any) -> bool:
        return json.dumps(question) in self._known

    def __getitem__(self, question: Any) -> Any:
        return self._known[json.dumps(question)]

    def __len__(self) -> int:
        return len(self._known)

    def answers(self) -> list[Any]:
        """In the order in which they came."""
        return list(self._known.values())

    def add(self, question: Any, answer: Any) -> None:
        """Written to the disk before this returns."""
        line = json.dumps([question, answer])
        self._known[json.dumps(question)] = json.loads(line)[1]
        append_line(self._path, line)
