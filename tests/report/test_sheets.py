"""Pages about a sweep, a ladder and a search: their tables hold the figures that they were given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import BundleError
from exporter.report import render_law, render_search, render_sweep, render_tune
from tests.report.test_report import cells


def point(width: str, artifact: str, size: int, metric: float | None) -> dict[str, Any]:
    lost = None if metric is None else 90 - metric
    both = {"width": width, "group": "channel", "rounder": "<auto>", "artifact": artifact}
    return {**both, "bytes": size, "metric": metric, "drop": lost, "p50_ms": 0.25}


def test_sweep(tmp_path: Path) -> None:
    points = [point("int4", "onnxruntime", 1_000, 71.5), point("int8", "onnxruntime", 12_345, 89.875)]
    points.append(point("int8", "tflite", 11_111, None))  # was not judged
    found = {"metric": "top1", "float": {"bytes": 40_000, "metric": 90.0, "p50_ms": 0.5}, "points": points}
    page = render_sweep(tmp_path, found)
    assert page == tmp_path / "sweep.html"
    text = page.read_text("utf-8")
    assert cells(text) == [
        ["Weights", "Group", "Rounder", "Artifact", "Bytes", "Metric", "Drop", "p50, ms"],
        ["int4", "channel", "<auto>", "onnxruntime", "1,000", "71.50", "18.50", "0.250"],
        ["int8", "channel", "<auto>", "onnxruntime", "12,345", "89.88", "0.12", "0.250"],
        ["int8", "channel", "<auto>", "tflite", "11,111", "", "", "0.250"],
    ]
    assert "top1 and latency of 2 files against their bytes" in text


@pytest.mark.parametrize("passed", [True, False])
def test_tune(tmp_path: Path, passed: bool) -> None:
    first = {"step": "as it is", "verdict": "failed", "drop": 7.0, "points": None, "ms": 1.5, "bytes": 1200}
    kept = {"step": "pass <smooth>", "verdict": "kept", "drop": 2.25, "points": 4.75, "ms": -0.125, "bytes": 0}
    broken = {"step": "observer mse", "verdict": "no such range", "drop": None, "points": None, "ms": None}
    receipts = [{**row, "seconds": 2.4} for row in (first, kept, {**broken, "bytes": None})]
    found = {"passed": passed, "receipts": receipts, "reasons": [] if passed else ["tflite: a <drop> of 2.25"]}
    text = render_tune(tmp_path, found, 1.5).read_text("utf-8")
    assert cells(text)[1:] == [
        ["as it is", "failed", "7.00", "", "1.50", "1,200", "2"],
        ["pass <smooth>", "kept", "2.25", "4.75", "-0.12", "0", "2"],
        ["observer mse", "no such range", "", "", "", "", "2"],
    ]
    assert ("not passed: tflite: a &lt;drop&gt; of 2.25" in text) != passed
    assert "2 steps; last: pass &lt;smooth>, 2.25 points lost" in text, "what could not be made has no bar"


def plan(widths: list[str], size: int, divergence: float, time: float | None = None) -> dict[str, Any]:
    return {"widths": widths, "bytes": size, "divergence": divergence, "time": time}


@pytest.mark.parametrize("timed", [False, True])
def test_search(tmp_path: Path, timed: bool) -> None:
    times = [0.5, 1.0, 0.75] if timed else [None] * 3
    low, high = plan(["int4"] * 2, 1500, 0.5, times[0]), plan(["int8"] * 2, 3000, 0.125, times[1])
    best = plan(["int8", "int4"], 2000, 0.25, times[2])
    alone = {width: {"alone": {"divergence": 0.1}} for width in ("int4", "int8")}
    layers = [{"weight": name, "values": values, "choices": alone} for name, values in (("w<1>", 2048), ("w2", 16))]
    found = {"layers": layers, "budget": 800_000 if timed else 2000, "target": "host" if timed else None, "best": best}
    found |= {"points": [low, best, high], "front": [low, best, high], "uniform": {"int4": low, "int8": high}}
    (tmp_path / "search.json").write_text(json.dumps(found))
    text = render_search(tmp_path).read_text("utf-8")
    assert cells(text) == [["Layer", "Values", "Width"], ["w<1>", "2,048", "int8"], ["w2", "16", "int4"]]
    budget = "0.800 of float&#x27;s latency on host, predicted" if timed else "2,000 bytes of weights"
    assert f"Budget {budget}; 3 plans compared." in text
    assert "3 plans; taken: 2000 bytes, 0.25" in text
    assert "divergence of 2 layers, each alone, at int4, int8" in text


@pytest.mark.parametrize("content", [None, "{"])
def test_results_that_are_not_there_are_named(tmp_path: Path, content: str | None) -> None:
    for name, render in (("search", render_search), ("law", lambda folder: render_law(folder, "a family"))):
        if content is not None:
            (tmp_path / f"{name}.json").write_text(content)
        with pytest.raises(BundleError, match=rf"has no {name}\.json, or it is damaged; run kbit {name} again"):
            render(tmp_path)
        assert not (tmp_path / f"{name}.html").exists()
