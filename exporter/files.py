"""Files that are complete or not there, as targets/files.py writes them; what the system refuses is a KbitError."""

from __future__ import annotations

from functools import partial

from exporter.errors import KbitError
from targets import files

__all__ = ["append_line", "refuse_unwritable", "replacing", "write_whole", "writing"]

append_line = partial(files.append_line, error=KbitError)
refuse_unwritable = partial(files.refuse_unwritable, error=KbitError)
replacing = partial(files.replacing, error=KbitError)
write_whole = partial(files.write_whole, error=KbitError)
writing = partial(files.writing, error=KbitError)
