"""The kbit command: parse, call, print. No logic lives here.

Exit codes: 0 ok, 1 a gate failed, 2 the user must change something, 3 a fault of ours, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from typer.exceptions import TyperException

from exporter.cli import language, law, recovery
from exporter.cli.app import app
from exporter.errors import KbitError
from targets import TargetError

__all__ = ["main"]

app.command()(language.generate)
app.command()(law.law)
recovery.register(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error is one line on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # python -W shows them
                warnings.simplefilter("ignore")  # what libraries say to programmers is not for the user
            code: int = app(_with_json_value(words), prog_name="kbit", standalone_mode=False) or 0
        sys.stdout.flush()
        return code
    except (KbitError, TargetError) as error:
        return _fail(str(error), 2, error)
    except TyperException as error:  # an option or argument that the parser refuses
        return _fail(error.format_message(), 2, error)
    except (BrokenPipeError, SystemExit):  # the reader went away, as in `kbit inspect x | head`; rich exits with 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell gives for SIGPIPE
    except OSError as error:  # a full disk, a folder that may not be written
        return _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 2, error)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        return _fail(f"a fault in kbit, please report it: {found}; KBIT_TRACEBACK=1 shows where", 3, error)


def _fail(message: str, code: int, error: BaseException) -> int:
    if os.environ.get("KBIT_TRACEBACK") == "1":
        raise error
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code


def _with_json_value(words: list[str]) -> list[str]:
    """``--json`` of check takes a FILE that may be left out: ``-``, which is stdout."""
    if words[0] != "check" or "--json" not in words:
        return words
    after = words.index("--json") + 1
    alone = after == len(words) or words[after].startswith("-")
    return [*words[:after], "-", *words[after:]] if alone else words
