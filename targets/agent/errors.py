"""What the checker raises on purpose."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["JobError", "explain"]

# what a runtime says about a file that is newer than itself (onnxruntime core/graph/model.cc; tflite core/interpreter)
_TOO_OLD = re.compile(
    r"Unsupported model IR version|only \*guarantees\* support for models stamped|ONNX opset .{0,40}not supported"
    r"|Didn't find op for builtin opcode|is not a registered function/op|No Op registered for"
    r"|Could not find an implementation|Type .tensor\(u?int4\)."
)


class JobError(Exception):
    """One line: why a job gave no result, and what to do."""


def explain(error: Any) -> str:
    """One line for any exception; that a runtime is too old for the file is said in so many words."""
    text = " ".join(str(error).split()) or type(error).__name__
    if _TOO_OLD.search(text):
        return "the runtime is too old for this file: upgrade it on the device (pip install -U); it says: %s" % text
    if isinstance(error, MemoryError):
        return "out of memory"
    return text
