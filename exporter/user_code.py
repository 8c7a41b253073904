"""The user's own code, named "module:callable" or "path/to/file.py:callable". Nothing else here runs any."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from exporter.errors import KbitError, first_line

__all__ = ["call", "file_of", "innermost", "running"]


def file_of(source: str, base: Path) -> Path:
    """Where the code lies if it lies below ``base``; an installed module is not there."""
    name = source.rpartition(":")[0]
    return base / (name if name.endswith(".py") else f"{name.replace('.', '/')}.py")


@contextlib.contextmanager
def running(base: Path) -> Iterator[None]:
    """``base`` is on sys.path meanwhile, and what the code prints goes to stderr."""
    place = str(base.resolve())
    sys.path.insert(0, place)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it must not mix with --json
            yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(place)


def call(source: str, base: Path, key: str, error: type[KbitError]) -> Any:
    """What the callable returns. Raises ``error`` in the name of the recipe's ``key`` where it cannot be had."""
    name, _, attribute = source.rpartition(":")
    with running(base):
        module = _imported(name, file_of(source, base).resolve(), source, key, error)
        function = getattr(module, attribute, None)
        if not callable(function):
            close = difflib.get_close_matches(attribute, [n for n in dir(module) if not n.startswith("_")], 3, 0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else f"check {key}"
            raise error(f"{key} {source!r}: {name} has no callable {attribute!r}", hint)
        try:
            return function()
        except (Exception, SystemExit) as found:
            what = f"{key} {source!r}: {attribute}() failed: {innermost(found)}"
            raise error(what, "it is called without arguments") from found


def innermost(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def _imported(name: str, path: Path, source: str, key: str, error: type[KbitError]) -> ModuleType:
    if name.endswith(".py") and not path.is_file():
        raise error(f"{key} {source!r}: {path} does not exist", "paths are relative to the recipe")
    try:
        if name.endswith(".py") or ("." not in name and path.is_file()):
            # a name of its own for each path: two files called model.py may be loaded in one process
            unique = f"_kbit_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
            spec = importlib.util.spec_from_file_location(unique, path)
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[unique] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        module = importlib.import_module(name)
    except (Exception, SystemExit) as found:
        raise error(f"{key} {source!r}: cannot import {name!r}: {innermost(found)}") from found
    place = getattr(module, "__file__", None)
    if path.is_file() and place is not None and Path(place).resolve() != path:
        what = f"{key} {source!r}: another module {name!r} is already imported, from {place}"
        raise error(what, f"name the file: {path.name}:…")
    return module
