"""The first words to a device's shell: find Python and a folder, take the checker from stdin, run it, clean up."""

from __future__ import annotations

import base64
import re

from targets.agent import archive
from targets.types import TargetError

__all__ = ["EXPLAINED", "OUTSIDE", "script"]

# folders to try, first come: a phone's shell has no home of its own; /tmp may be memory
OUTSIDE = ("$KBIT_DIR", "$XDG_CACHE_HOME", "${HOME:+$HOME/.cache}", "$TMPDIR", "/data/local/tmp", "/tmp")

# exit code -> (what was found, what to do)
EXPLAINED = {
    41: ("no Python 3 there", 'sudo apt install python3-venv; elsewhere: python = "…" in a target file'),
    42: ("the disk is full, or no folder there can be written", "free some space, or set KBIT_DIR there"),
    43: ("its Python is older than 3.9", 'install a newer one, and name it: python = "…" in a target file'),
    45: ("the connection was cut while the checker was sent", "run it again"),
    46: ("the emulated board does not start", "kbit doctor says what it needs"),
    137: ("the checker was killed (signal 9: out of memory?)", "close other programs there, or check a smaller model"),
}  # fmt: skip

_BOOT = """
import os, sys
if sys.version_info < (3, 9):
    sys.exit(43)
folder, left = sys.argv[2], int(sys.argv[3])
path = os.path.join(folder, "check.pyz")
try:
    with open(path, "wb") as file:
        while left:
            piece = os.read(0, min(left, 65536))
            if not piece:
                sys.exit(45)
            left -= len(piece)
            file.write(piece)
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(42)
os.execv(sys.executable, [sys.executable, path, "--serve", folder])
"""


def script(python: str = "", folders: tuple[str, ...] = OUTSIDE) -> str:
    """For ``sh -c``; holds no single quote, so that any login shell can pass it on.

    The folder is removed when the checker ends, however it ends; when the connection is cut it ends by itself.
    """
    candidates = [_quoted(python)] if python else ['"$HOME/kbit/bin/python"', "python3"]
    code = base64.b64encode(_BOOT.encode()).decode()
    bases = " ".join(f'"{folder}"' for folder in folders)
    lines = (
        "umask 077; P=; D=",
        f'for C in {" ".join(candidates)}; do if command -v "$C" >/dev/null 2>&1; then P=$C; break; fi; done',
        '[ -n "$P" ] || exit 41',
        f'for B in {bases}; do if [ -n "$B" ] && mkdir -p "$B/kbit" 2>/dev/null; then'
        ' D=$(mktemp -d "$B/kbit/run.XXXXXX" 2>/dev/null) && break; fi; D=; done',
        '[ -n "$D" ] || exit 42',
        "trap : HUP INT TERM",
        f'"$P" -c "import base64,sys;exec(base64.b64decode(sys.argv[1]))" {code} "$D" {len(archive.build())}',
        'E=$?; rm -rf "$D"; rmdir "$B/kbit" 2>/dev/null; exit $E',
    )
    return "; ".join(lines)


def _quoted(path: str) -> str:
    if path == "$KBIT_PYTHON":
        return f'"{path}"'
    if not re.fullmatch(r"(~/)?[A-Za-z0-9_./+\-]+", path):
        raise TargetError(f"python = {path!r}: expected a plain path, as in ~/kbit/bin/python")
    return f'"$HOME/{path[2:]}"' if path.startswith("~/") else f'"{path}"'
