"""The page: complete, self-contained, escaped, and of use before the bundle was checked."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from exporter.report import render
from tests.test_bundle import export


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return export(folder, folder / "out")


def test_it_says_what_counts_and_loads_nothing(bundle: Path) -> None:
    page = render(bundle).read_text()
    for text in ("Ship it", "ONNX Runtime", "TFLite", "The plan", "minmax"):
        assert text in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?https?:", page)
    assert "<script" not in page
    assert page.count('role="img"') >= 8, "charts"


def test_the_same_bundle_gives_the_same_page(bundle: Path, tmp_path: Path) -> None:
    assert render(bundle, tmp_path / "a.html").read_bytes() == render(bundle, tmp_path / "b.html").read_bytes()


def test_names_are_escaped(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["name"] = "<script>alert(1)</script>"
    manifest["float_nodes"] = {"<b>": "<i>"}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    analysis = json.loads((copy / "analysis.json").read_text())
    analysis["layers"][0]["value"] = analysis["histograms"][0]["value"] = '<img src="x">'
    (copy / "analysis.json").write_text(json.dumps(analysis))
    page = render(copy).read_text()
    assert "<script" not in page
    assert "<img" not in page


@pytest.mark.parametrize("missing", ["check.json", "analysis.json"])
def test_what_is_missing_is_named(bundle: Path, tmp_path: Path, missing: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    (copy / missing).unlink()
    page = render(copy).read_text()
    assert ("kbit check" in page) if missing == "check.json" else ("analysis was not run" in page)


def test_a_failed_gate_is_the_first_thing_one_sees(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    check = json.loads((copy / "check.json").read_text()) | {"passed": False, "reasons": ["tflite: too slow"]}
    (copy / "check.json").write_text(json.dumps(check))
    page = render(copy).read_text()
    assert page.index("Do not ship") < page.index("tflite: too slow") < page.index("side by side")
