"""What is public, and what importing it costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import exporter

PUBLIC = [
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
HEAVY = {"torch", "onnxruntime", "ai_edge_litert", "tensorflow", "matplotlib", "sklearn"}


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after ``code``."""
    show = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    command = [sys.executable, "-c", f"{code}\n{show}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_public_names_are_pinned() -> None:
    assert sorted(exporter.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(exporter, name).__doc__, f"exporter.{name} has no docstring"


@pytest.mark.parametrize("module", ["exporter", "targets", "exporter.recipe", "exporter.types"])
def test_importing_loads_neither_torch_nor_a_runtime(module: str) -> None:
    assert not loaded_by(f"import {module}") & HEAVY


def test_a_stage_is_a_function_whatever_was_imported_before() -> None:
    """No package may take the name of a function (so exporter.loading holds load)."""
    code = "import exporter.loading, exporter.preparing, exporter.pipeline, exporter\n"
    code += "assert all(callable(getattr(exporter, name)) for name in exporter.__all__)"
    loaded_by(code)


def test_help_is_quick() -> None:
    code = "import contextlib, io\nfrom exporter.cli import main\n"
    code += "with contextlib.redirect_stdout(io.StringIO()): main(['--help']); main(['export', '--help'])"
    assert not loaded_by(code) & (HEAVY | {"onnx", "onnx_ir", "onnxscript", "numpy"})
