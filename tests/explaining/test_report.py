"""A bundle that lost accuracy says why, in analysis.json and in the report; one that lost none says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from exporter import export
from tests.quantize.graphs import model_of, run

TEXT = """net (float[N,4,6,6] x) => (float[N,5] y) {
    a = Conv <pads = [1,1,1,1]> (x, w)
    b = Relu (a)
    c = Flatten (b)
    y = Gemm <transB = 1> (c, v, d)
}"""


@pytest.mark.parametrize(("width", "lost"), [("binary", True), ("int8", False)])
def test_why(tmp_path: Path, width: str, lost: bool) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((8, 4, 3, 3)), "v": rng.standard_normal((5, 288)), "d": np.zeros(5)}
    model = model_of(TEXT, **{name: array.astype(np.float32) for name, array in weights.items()})
    ir.save(model, tmp_path / "net.onnx")
    x = rng.standard_normal((128, 4, 6, 6)).astype(np.float32)
    logits = run(model, {"x": x})["y"]
    clear = np.sort(logits, axis=1)[:, -1] - np.sort(logits, axis=1)[:, -2] > np.quantile(logits.std(axis=1), 0.5) / 4
    x, labels = x[clear], logits[clear].argmax(axis=1)
    data = {"calibration": x, "evaluation": {"x": x, "labels": labels}}
    made = export(tmp_path / "net.onnx", out=tmp_path / "out", weights=width, rounder="nearest", **data)
    analysis = json.loads((made.path / "analysis.json").read_text("utf-8"))
    page = (made.path / "report.html").read_text("utf-8")
    assert ("shares" in analysis) == lost
    assert ("Each layer's own share" in page) == lost
    if lost:
        assert [share["weight"] for share in analysis["shares"]] == ["w", "v"]
        assert max(share["points_alone"] for share in analysis["shares"]) > 1
        assert all(share["without"] >= 0 for share in analysis["shares"])
        assert analysis["divergence"] > 0
