"""Pack the checker into check.pyz: the same bytes every time."""

from __future__ import annotations

import io
import os
import zipfile

__all__ = ["build"]

_PARTS = (
    "__init__",
    "bench",
    "checking",
    "children",
    "conditions",
    "decoders",
    "errors",
    "facts",
    "figures",
    "jobs",
    "judge",
    "language",
    "language_check",
    "main",
    "manifest",
    "metrics",
    "onnx_wire",
    "preprocess",
    "profiling",
    "runtimes",
    "sampling",
    "serve",
    "taps",
    "tflite_wire",
    "worker",
)
_START = "import sys\nfrom agent.main import main\nsys.exit(main())\n"
_DATE = (1980, 1, 1, 0, 0, 0)


def build() -> bytes:
    """A zip archive that Python runs: ``python check.pyz``."""
    here = os.path.dirname(os.path.abspath(__file__))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", _START)
        for part in _PARTS:
            with open(os.path.join(here, part + ".py"), encoding="utf-8") as file:
                _add(archive, "agent/%s.py" % part, file.read())
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, text)
