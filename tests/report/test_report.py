"""The page: complete, self-contained, escaped, and of use before the bundle was checked."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
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


def cells(page: str) -> list[list[str]]:
    """Every row of every table."""
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return [[unescape(re.sub("<.*?>", "", c)) for c in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row)] for row in rows]


def test_its_figures_are_those_that_were_measured(bundle: Path) -> None:
    rows = cells(render(bundle).read_text())
    check = json.loads((bundle / "check.json").read_text())
    for name, title in (("float", "Float"), ("onnxruntime", "ONNX Runtime"), ("tflite", "TFLite")):
        facts = check["artifacts"][name]
        shown = next(row for row in rows if row[0] == title)
        times = [f"{facts['latency_ms'][key]:.3f}" for key in ("p50", "p90")]
        assert shown[1:5] == [f"{facts['metric']:.2f}", f"{facts['drop']:.2f}", *times]
    agreement = check["agreement"]["top1"]
    assert ["Top-1 agreement of the artifacts", "", f"{agreement:.4f}", "≥ 0.9", "✓ yes"] in rows
    plan = json.loads((bundle / "plan.json").read_text())
    assert {tensor["name"] for tensor in plan["tensors"]} <= {row[0] for row in rows}


def test_a_gate_that_does_not_hold_says_so(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    check = json.loads((copy / "check.json").read_text())
    check["agreement"]["top1"] = 0.5
    (copy / "check.json").write_text(json.dumps(check))
    assert ["Top-1 agreement of the artifacts", "", "0.5000", "≥ 0.9", "✗ no"] in cells(render(copy).read_text())


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


BENCH = {
    "target": "board", "trusted": False, "reasons": ["1 thread: noisy: <b>"], "device": {"model": "Pi", "cpu": "A76"},
    "peak_bytes": {"tflite": 9_000_000},
    "settings": [{
        "threads": 1, "launches": 5, "pinned": [3], "warm_up_s": 0.4,
        "artifacts": {
            "float": {"p50": 2.0, "low": 1.9, "high": 2.1, "load_ms": 3.0, "first_ms": 4.0},
            "tflite": {"p50": 1.0, "low": 0.9, "high": 1.1, "p90": 1.2, "load_ms": 3.0, "first_ms": 4.0,
                       "against_float": {"ratio": 0.5, "low": 0.4, "high": 0.6}},
        },
        "conditions": {
            "before": {"temperature_c": 45.0, "clock_mhz": [2400], "governor": "ondemand", "throttled": [], "load": 0},
            "during": {"temperature_c": [45.0, 61.0], "clock_mhz": None},
            "after": {"temperature_c": None, "clock_mhz": None, "governor": None, "throttled": None, "load": None},
        },
    }],
    "profiles": {"tflite": {
        "total_ms": 1.0, "method": "prefixes",
        "ops": [{"op": "CONV_2D", "kind": "integer", "count": 3, "ms": 0.75, "share": 0.75},
                {"op": "EXP", "kind": "float", "count": 1, "ms": 0.25, "share": 0.25}],
        "float_nodes": [{"name": "exp", "op": "EXP", "ms": 0.25}], "layout_nodes": [],
    }},
    "sustained": {"artifact": "tflite", "knee": 2, "rows": [
        {"at_s": float(i), "median_ms": 1.0 + (i > 1), "temperature_c": 50.0 + i} for i in range(4)]},
}  # fmt: skip


def test_latency_and_where_it_goes(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    assert "<code>kbit bench</code> does it" in render(copy).read_text()
    (copy / "bench.json").write_text(json.dumps(BENCH))
    page = render(copy).read_text()
    for text in (
        "cannot be trusted", "noisy: &lt;b&gt;", "0.9000 … 1.1000", "2.00x", "9 MB", "ondemand", "45.0 … 61.0",
        "pinned to processor 3", "1 node in float between integers: 0.2500 ms, 25.00 %", "<code>exp</code>",
        "No node is there only to change the layout", "package has no profiler", "knee at 2 s",
    ):  # fmt: skip
        assert text in page, text


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
