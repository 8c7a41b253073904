"""Bundles: the same bytes every time, complete or not at all, and a checker that needs nothing of kbit."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import exporter
from exporter.bundle import claim, read, verify
from exporter.errors import BundleError
from targets.agent import archive

TEXT = (
    '<ir_version: 10, opset_import: ["" : 21]>\n'
    "main (float[N,3,8,8] image) => (float[N,4] scores) { c = Conv<pads=[1,1,1,1]>(image, w, b)  r = Relu(c) "
    "g = GlobalAveragePool(r)  f = Flatten(g)  scores = Gemm(f, v) }"
)


def small_model(path: Path) -> Path:
    import onnx

    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(TEXT)
    for name, shape in (("w", (8, 3, 3, 3)), ("b", (8,)), ("v", (8, 4))):
        proto.graph.initializer.append(
            onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        )
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    return export(folder, folder / "out")


def export(folder: Path, out: Path) -> Path:
    model = small_model(folder / "small.onnx")
    rng = np.random.default_rng(1)
    data = {"image": rng.standard_normal((40, 3, 8, 8)).astype(np.float32), "labels": rng.integers(0, 4, 40)}
    made = exporter.export(model, calibration={"image": data["image"]}, evaluation=data, out=out, min_agreement=0.9)
    return made.path


def tree(folder: Path) -> dict[str, str]:
    measured = {"check.json", "report.html"}  # these hold times
    files = [f for f in folder.rglob("*") if f.is_file() and f.name not in measured]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_the_same_recipe_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    again = export(tmp_path, tmp_path / "out")
    first, second = tree(bundle), tree(again)
    differing = {name for name in first if first[name] != second.get(name)} - {"manifest.json", "recipe.toml"}
    assert not differing, "manifest.json and recipe.toml name the model's own folder"


def test_every_file_is_listed_and_sound(bundle: Path) -> None:
    manifest = verify(bundle).manifest
    listed = {entry["path"] for entry in [*manifest["artifacts"], *manifest["files"]]}
    results = {"check.json", "analysis.json", "parity.json", "report.html"}
    assert {f.name for f in bundle.iterdir()} == listed | results | {"manifest.json"}


def test_channels_last_is_in_the_manifest(bundle: Path) -> None:
    (artifact,) = [a for a in read(bundle).manifest["artifacts"] if a["name"] == "tflite"]
    assert artifact["inputs"][0]["permutation"] == [0, 2, 3, 1]
    assert artifact["inputs"][0]["shape"] == ["N", 8, 8, 3]


@pytest.mark.parametrize("what", ["a file", "a folder with something in it"])
def test_a_place_in_use_is_refused(what: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    with pytest.raises(BundleError, match="name a new folder"):
        claim(out)


def test_the_checker_runs_alone(bundle: Path, tmp_path: Path) -> None:
    """Isolated mode, another folder, and neither package importable by name."""
    code = "import sys; sys.modules['exporter'] = sys.modules['targets'] = None; import runpy; "
    code += f"sys.argv = ['check.pyz', {str(bundle)!r}, '--json', 'r.json', '--samples', '5']; "
    code += f"runpy.run_path({str(bundle / 'check.pyz')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["passed"]
    assert result["evaluation_samples"] == 5
    for facts in result["artifacts"].values():
        assert facts["golden"]["equal"] == 1.0
        assert facts["latency_ms"]["n"] >= 100
        assert facts["peak_bytes"] > 1e6


def test_a_missing_runtime_and_a_broken_artifact_are_reasons_not_crashes(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    import shutil

    shutil.copytree(bundle, copy)
    broken = b"\x00" * 64
    (copy / "model.tflite").write_bytes(broken)
    manifest = json.loads((copy / "manifest.json").read_text())
    for artifact in manifest["artifacts"]:
        if artifact["name"] == "tflite":
            artifact |= {"sha256": hashlib.sha256(broken).hexdigest(), "bytes": len(broken)}
        if artifact["name"] == "onnxruntime":
            artifact["runtime"] = "abacus"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    done = subprocess.run(
        [sys.executable, str(copy / "check.pyz"), str(copy)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    reasons = json.loads(done.stdout)["reasons"]
    assert any(r.startswith("onnxruntime:") and "abacus" in r for r in reasons)
    assert any(r.startswith("tflite:") for r in reasons)


def test_a_checker_of_another_make_is_not_run(bundle: Path, tmp_path: Path) -> None:
    import shutil

    import targets

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    evil = b"print('mine')"
    (copy / "check.pyz").write_bytes(evil)
    manifest = json.loads((copy / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["path"] == "check.pyz":
            entry |= {"sha256": hashlib.sha256(evil).hexdigest(), "bytes": len(evil)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(targets.TargetError, match=r"check\.pyz was not made by this version"):
        targets.check(copy)


def test_the_checker_is_small_and_old_python_reads_it() -> None:
    data = archive.build()
    assert len(data) < 100_000
    assert data == archive.build()
    import io

    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        for name in packed.namelist():
            ast.parse(packed.read(name), feature_version=(3, 9))
