"""Files that are complete or not there; whatever the system refuses becomes one line that names the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from targets.types import TargetError

__all__ = ["append_line", "refuse_unwritable", "replacing", "write_whole", "writing"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def writing(what: Path, error: type[Exception] = TargetError) -> Iterator[None]:
    """An OSError in the block becomes ``error`` (made from a message and a hint), which names ``what``."""
    try:
        yield
    except OSError as found:
        hint = "free some space" if found.errno in _FULL else "name another place"
        raise error(f"cannot write {what}: {found.strerror or found}", hint) from found


@contextmanager
def replacing(path: Path, error: type[Exception] = TargetError) -> Iterator[Path]:
    """A name to write to. It becomes ``path`` when the block ends well; otherwise nothing of it is left."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with writing(path, error):
            yield partial
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def write_whole(path: Path, text: str, error: type[Exception] = TargetError) -> None:
    """Write a text file in UTF-8. Raises ``error`` where it cannot be written; then an older one is still there."""
    with replacing(path, error) as partial:
        partial.write_text(text, "utf-8")


def append_line(path: Path, line: str, error: type[Exception] = TargetError) -> None:
    """Add a line; it is on the disk when this returns. Raises ``error``; then nothing of the line is left."""
    before = path.stat().st_size if path.is_file() else None
    with writing(path, error):
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                if before is None:
                    path.unlink()
                else:
                    os.truncate(path, before)
            raise


def refuse_unwritable(path: Path, error: type[Exception] = TargetError, *, folder: bool = False) -> None:
    """Raise now, before work is spent, ``error`` for a file that could not be written after it.

    folder  it is to be one, and those above it are made too
    """
    there = path.parent
    while folder and not there.exists():
        there = there.parent
    wrong = (
        errno.ENOENT if not there.exists()
        else errno.ENOTDIR if not there.is_dir()
        else errno.EEXIST if folder and path.is_file()
        else errno.EISDIR if not folder and path.is_dir()
        else errno.EACCES if not os.access(path if path.is_dir() else there, os.W_OK | os.X_OK)
        else 0
    )  # fmt: skip
    if wrong:
        with writing(path, error):
            raise OSError(wrong, os.strerror(wrong))
