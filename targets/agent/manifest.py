"""Read a bundle's manifest and prove that every file is the one it names."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

__all__ = ["FORMAT", "BrokenBundle", "batch_of", "file_hash", "read", "verify"]

FORMAT = 1


class BrokenBundle(Exception):
    """One line: what is wrong, and what to do."""


def read(folder: Any) -> Any:
    """The manifest as plain data; its structure is checked as far as the checker relies on it."""
    path = os.path.join(str(folder), "manifest.json")
    if not os.path.isdir(str(folder)):
        raise BrokenBundle("%s is not a folder; give the folder that kbit export wrote" % folder)
    try:
        with open(path, encoding="utf-8") as file:
            body = json.load(file)
    except FileNotFoundError:
        raise BrokenBundle("%s has no manifest.json; it is not a bundle, or it is incomplete" % folder) from None
    except (OSError, ValueError):
        raise BrokenBundle("%s is not JSON or is truncated; export the bundle again" % path) from None
    if not isinstance(body, dict) or not isinstance(body.get("format"), int):
        raise BrokenBundle("%s names no format; export the bundle again" % path)
    if body["format"] != FORMAT:
        message = "%s has format %s, this checker reads format %s; export the bundle again"
        raise BrokenBundle(message % (path, body["format"], FORMAT))
    for key, kind in (("name", str), ("inputs", list), ("outputs", list), ("artifacts", list), ("files", list)):
        if not isinstance(body.get(key), kind):
            raise BrokenBundle("%s: key %r is missing or of the wrong type; export the bundle again" % (path, key))
    for entry in body["artifacts"] + body["files"]:
        fields = isinstance(entry, dict) and all(k in entry for k in ("path", "sha256", "bytes"))
        if not fields or not isinstance(entry["path"], str):
            raise BrokenBundle("%s: an entry lacks path, sha256 or bytes; export the bundle again" % path)
    return body


def verify(folder: Any) -> Any:
    """``read``, then every file: inside the folder, a plain file, of the stated size and sha256."""
    body = read(folder)
    root = os.path.realpath(str(folder))
    for entry in body["artifacts"] + body["files"]:
        name = entry["path"]
        parts = name.replace("\\", "/").split("/")
        if os.path.isabs(name) or ":" in parts[0] or ".." in parts:
            raise BrokenBundle("manifest.json points outside the bundle: %r; do not use this bundle" % name)
        path = os.path.join(str(folder), name)
        if os.path.islink(path) or not os.path.realpath(path).startswith(root + os.sep):
            raise BrokenBundle("%r is a link out of the bundle; do not use this bundle" % name)
        if not os.path.isfile(path):
            raise BrokenBundle("%r is missing from the bundle; copy or export it again" % name)
        size = os.path.getsize(path)
        if size != entry["bytes"]:
            message = "%r has %d bytes, the manifest says %s: truncated or altered; copy or export it again"
            raise BrokenBundle(message % (name, size, entry["bytes"]))
        if file_hash(path) != entry["sha256"]:
            raise BrokenBundle("%r is altered: its sha256 is not the manifest's; copy or export it again" % name)
    return body


def batch_of(manifest: Any) -> int:
    """How many samples the model takes at a time: its fixed first dimension, or 1 where that is free."""
    first = manifest["inputs"][0]["shape"][:1]
    return first[0] if first and isinstance(first[0], int) else 1


def file_hash(path: Any) -> str:
    """sha256 as hex, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()
