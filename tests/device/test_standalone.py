"""The checker as it travels: small, and at home on every Python from 3.9 on with numpy and one runtime."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from targets.agent import archive
from tests.device.loopback import small_bundle

MOST_BYTES = 100_000
# Python -> the runtime that it gets; between them both runtimes, and the old TFLite one
RUNTIMES = {
    "3.9": ("tflite-runtime", "numpy<2"),
    "3.10": ("onnxruntime", "numpy"),
    "3.11": ("ai-edge-litert", "numpy"),
    "3.12": ("onnxruntime", "numpy"),
    "3.13": ("ai-edge-litert", "numpy"),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("standalone") / "bundle", max_drop=100.0)


def test_it_is_small_and_the_same_every_time() -> None:
    assert len(archive.build()) <= MOST_BYTES
    assert archive.build() == archive.build()


def interpreter(version: str) -> str:
    """A Python of this version: on PATH, or where pyenv keeps its own."""
    found = shutil.which(f"python{version}")
    places = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in [*map(str, places), *([found] if found else [])]:
        probe = [candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(probe, capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return candidate
    pytest.skip(f"Python {version} is not here: pyenv install {version}")


@pytest.mark.slow
@pytest.mark.parametrize("version", RUNTIMES)
def test_every_python(version: str, bundle: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([interpreter(version), "-m", "venv", str(tmp_path / "venv")], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", *RUNTIMES[version]], check=True)
    code = "import sys, zipimport; zipimport.zipimporter(sys.argv[1])"
    subprocess.run([python, "-W", "error", "-c", code, str(bundle / "check.pyz")], check=True)
    result = tmp_path / "result.json"
    done = subprocess.run(
        [python, bundle / "check.pyz", bundle, "--json", result, "--samples", "8"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    found = json.loads(result.read_text())
    runtime = "onnxruntime" if RUNTIMES[version][0] == "onnxruntime" else "tflite"
    for name, figures in found["artifacts"].items():
        if name != runtime and not (name == "float" and runtime == "onnxruntime"):
            assert "no package for runtime" in figures["errors"][0]
            continue
        assert figures["errors"] == []
        assert figures["metric"] is not None
        assert figures["latency_ms"]["p50"] > 0
        limit = 1 if RUNTIMES[version][0] == "tflite-runtime" else 0  # its kernels round the other way now and then
        assert (figures["golden"]["max_lsb"] or 0) <= limit
    doctor = subprocess.run([python, bundle / "check.pyz", "--doctor"], capture_output=True, text=True, check=True)
    assert json.loads(doctor.stdout)["python"].startswith(version)


def test_it_names_no_module_beyond_its_own(bundle: Path, tmp_path: Path) -> None:
    """Every part imports, from the archive alone, without the packages of kbit."""
    code = (
        "import sys; sys.modules['exporter'] = sys.modules['targets'] = None; sys.path.insert(0, sys.argv[1]);"
        "import importlib, zipfile;"
        "[importlib.import_module(n[:-3].replace('/', '.')) for n in zipfile.ZipFile(sys.argv[1]).namelist()"
        " if n.startswith('agent/') and '__init__' not in n]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle / "check.pyz")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
