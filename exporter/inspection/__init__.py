"""What is in a file: operators, bytes, the scheme of each tensor, the reason for it, and what runs in float."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from exporter.errors import KbitError
from exporter.inspection.types import FloatNode, Inspection, Kernels, Kind, Port, TensorScheme, WeightUse, by_use

__all__ = [
    "FloatNode",
    "Inspection",
    "Kernels",
    "Kind",
    "Port",
    "TensorScheme",
    "WeightUse",
    "by_use",
    "inspect_file",
    "to_dict",
]


def inspect_file(path: Path) -> Inspection:
    """A .onnx or .tflite file, a plan.json or a bundle folder. Raises KbitError when it is none of them."""
    if path.is_dir():
        from exporter.inspection.bundle_folder import inspect_bundle

        return inspect_bundle(path)
    if not path.is_file():
        raise KbitError(f"{path}: no such file or folder", "name a .onnx or .tflite file, a plan.json or a bundle")
    match path.suffix:
        case ".onnx":
            from exporter.inspection.onnx_file import inspect_onnx

            return inspect_onnx(path)
        case ".tflite":
            from exporter.inspection.tflite_file import inspect_tflite

            return inspect_tflite(path)
        case ".json":
            from exporter.inspection.plan_file import inspect_plan

            return inspect_plan(path)
    raise KbitError(f"{path}: unknown kind of file {path.suffix!r}", "expected .onnx, .tflite, plan.json or a bundle")


def to_dict(found: Inspection) -> dict[str, Any]:
    """Plain data for JSON."""
    return dataclasses.asdict(found)
