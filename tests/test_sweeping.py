"""A sweep over widths: real files, one table, one plot; what was measured is not measured again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from exporter.cli import main
from exporter.errors import RecipeError
from exporter.sweeping import parse_bits
from tests.quantize.graphs import model_of, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("sweep"), np.random.default_rng(0)
    text = "net (float[N,64] x) => (float[N,4] y) { a = MatMul (x, w) b = Relu (a) y = MatMul (b, v) }"
    weights = {"w": rng.standard_normal((64, 256)), "v": rng.standard_normal((256, 4))}
    model = model_of(text, **{name: array.astype(np.float32) for name, array in weights.items()})
    ir.save(model, place / "net.onnx")
    x = rng.standard_normal((192, 64)).astype(np.float32)
    np.savez(place / "data.npz", x=x, labels=run(model, {"x": x})["y"].argmax(axis=1))
    (place / "recipe.toml").write_text(
        '[model]\nsource = "net.onnx"\n[data]\ncalibration = "data.npz"\nevaluation = "data.npz"\n'
        '[quantize]\nactivations = "dynamic"\n',
        "utf-8",
    )
    return place


def test_more_bits_more_bytes_more_right(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", str(folder / "recipe.toml"), "--out", str(folder / "out"), "--bits", "2,4,8", "--group", "16"]
    assert main([*words, "--rounder", "nearest,hqq", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found == json.loads((folder / "out" / "sweep.json").read_text("utf-8"))
    assert (folder / "out" / "sweep.html").read_text("utf-8").count('role="img"') == 1
    assert found["float"]["metric"] == 100
    assert len(found["points"]) == 2 * 3 * 2
    for rounder in ("nearest", "hqq"):
        line = [p for p in found["points"] if (p["artifact"], p["rounder"]) == ("onnxruntime", rounder)]
        assert [p["width"] for p in line] == ["int2", "int4", "int8"]
        assert [p["bytes"] for p in line] == sorted(p["bytes"] for p in line)
        assert line[0]["metric"] < line[1]["metric"] < line[2]["metric"] + 1
        assert all(p["group"] == 16 and p["p50_ms"] > 0 for p in line)
    journal = (folder / "out" / "journal.jsonl").read_text("utf-8")
    assert main([*words, "--rounder", "nearest"]) == 0
    assert (folder / "out" / "journal.jsonl").read_text("utf-8") == journal, "all of it was known"
    assert "int4" in capfd.readouterr().out


def test_figures_of_changed_data_are_not_reused(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("net.onnx", "recipe.toml", "data.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    words = ["sweep", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out"), "--bits", "8"]
    assert main(words) == 0
    with np.load(tmp_path / "data.npz") as body:
        changed = {**body, "labels": np.roll(body["labels"], 1)}
    np.savez(tmp_path / "data.npz", **changed)
    capfd.readouterr()
    assert main(words) == 2
    assert "is of another recipe, other data or other options; name another folder" in capfd.readouterr().err


def test_each_setting_is_a_training_of_its_own(folder: Path, tmp_path: Path) -> None:
    """One checkpoint for all of them would be refused by the second."""
    text = (folder / "recipe.toml").read_text("utf-8").replace('"net.onnx"', f'"{folder / "net.onnx"}"')
    text = text.replace('"data.npz"', f'"{folder / "data.npz"}"')
    text += f'[finetune]\ndata = "{folder / "data.npz"}"\nepochs = 1\ncheckpoint = "train.ckpt"\n'
    (tmp_path / "recipe.toml").write_text(text, "utf-8")
    assert main(["sweep", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out"), "--bits", "2,4"]) == 0
    names = sorted(path.name for path in tmp_path.glob("train*"))
    assert names == ["train.int2-channel-auto.ckpt", "train.int4-channel-auto.ckpt"]


def test_a_mistake_in_the_last_setting_is_said_before_the_first_is_measured(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", str(folder / "recipe.toml"), "--out", str(folder / "typo"), "--bits", "8"]
    assert main([*words, "--rounder", "nearest,gtpq"]) == 2
    assert "did you mean 'gptq'?" in capfd.readouterr().err
    assert len((folder / "typo" / "journal.jsonl").read_text("utf-8").splitlines()) == 1, "its heading alone"


@pytest.mark.parametrize(
    ("text", "widths"),
    [
        ("1..3", ["binary", "int2", "int3"]),
        ("2,4,8", ["int2", "int4", "int8"]),
        ("1.58,2..3", ["ternary", "int2", "int3"]),
    ],
)
def test_bits(text: str, widths: list[str]) -> None:
    assert parse_bits(text) == widths


@pytest.mark.parametrize("text", ["0..4", "9", "", "4..2", "a"])
def test_bits_that_are_none(text: str) -> None:
    with pytest.raises(RecipeError, match="is no width"):
        parse_bits(text)
