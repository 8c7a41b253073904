"""kbit: from a trained model to a checked bundle for ONNX Runtime and TFLite, out of one plan.

The line in one call is ``export``; its stages are here too. Importing this package loads neither torch nor a runtime.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by onnxruntime when it is first imported

if TYPE_CHECKING:
    from exporter.bundle import Bundle, package
    from exporter.calibration import calibrate
    from exporter.emit.ort import emit_onnx
    from exporter.emit.tflite import emit_tflite
    from exporter.errors import KbitError, UnsupportedError
    from exporter.loading import load
    from exporter.pipeline import check, export
    from exporter.preparing import prepare
    from exporter.quantize import apply, make_plan
    from exporter.recipe import Recipe, read_recipe
    from exporter.types import Plan

__all__ = [
    "Bundle",
    "KbitError",
    "Plan",
    "Recipe",
    "UnsupportedError",
    "apply",
    "calibrate",
    "check",
    "emit_onnx",
    "emit_tflite",
    "export",
    "load",
    "make_plan",
    "package",
    "prepare",
    "read_recipe",
]

_HOME = {
    "Bundle": "bundle",
    "KbitError": "errors",
    "Plan": "types",
    "Recipe": "recipe",
    "UnsupportedError": "errors",
    "apply": "quantize",
    "calibrate": "calibration",
    "check": "pipeline",
    "emit_onnx": "emit.ort",
    "emit_tflite": "emit.tflite",
    "export": "pipeline",
    "load": "loading",
    "make_plan": "quantize",
    "package": "bundle",
    "prepare": "preparing",
    "read_recipe": "recipe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'exporter' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"exporter.{_HOME[name]}"), name)
    globals()[name] = found  # a stage and its package share a name: the function wins
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
