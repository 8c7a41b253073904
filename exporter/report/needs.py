"""What a page needs: the extra ``report``, and results that were written before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exporter.errors import BundleError, MissingError

__all__ = ["read_result", "the_extra"]


@contextmanager
def the_extra() -> Iterator[None]:
    """Around imports: what is not there becomes a MissingError that says how to install it."""
    try:
        yield
    except ImportError as error:
        found = f"the page needs {error.name}, which is not installed"
        raise MissingError(found, "pip install 'kbit[report]'") from error


def read_result(path: Path, command: str) -> Any:
    """A JSON file. Raises BundleError where it is not there or damaged; ``command`` is what writes it."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path.parent} has no {path.name}, or it is damaged", f"run {command} again") from error
