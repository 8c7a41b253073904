"""The ladder on real files: it stops at the first remedy that passes, and the recipe that it writes passes too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from exporter.cli import main
from exporter.errors import DataError
from exporter.recipe import Recipe, read_recipe, with_overrides
from exporter.subject import open_subject
from exporter.tuning import Tuning, ladder, rungs, tune
from tests.quantize.graphs import model_of, run

RECIPE = """[model]
source = "net.onnx"
[data]
calibration = "calib.npz"
evaluation = "test.npz"
[quantize]
granularity = "tensor"
rounder = "nearest"
[gates]
max_drop = {limit}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Channels of very unlike ranges between two convolutions: one scale for a tensor cannot hold them."""
    place, rng = tmp_path_factory.mktemp("tune"), np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    text = """net (float[N,3,8,8] image) => (float[N,6] y) {
        a = Conv <pads = [1,1,1,1]> (image, w1, b1)
        b = Relu (a)
        c = Conv <pads = [1,1,1,1]> (b, w2, b2)
        d = Relu (c)
        q = Flatten (d)
        y = Gemm <transB = 1> (q, w3, b3)
    }"""
    ranges = np.geomspace(1, 2000, 16).astype(np.float32)
    first, second = noise(16, 3, 3, 3), noise(24, 16, 3, 3)
    weights = {
        "w1": first * ranges[:, None, None, None],
        "w2": second / ranges[:, None, None],
        "w3": 3 * noise(6, 24 * 64),
    }
    weights |= {"b1": 0.1 * ranges, "b2": 0.1 * noise(24), "b3": 0.1 * noise(6)}
    model = model_of(text, **weights)
    ir.save(model, place / "net.onnx")
    images = rng.standard_normal((460, 3, 8, 8)).astype(np.float32)
    logits = run(model, {"image": images})["y"]
    ordered = np.sort(logits, axis=1)
    clear = np.argsort(ordered[:, -2] - ordered[:, -1])[:300]  # samples that are not on the fence
    images, labels = images[clear], logits[clear].argmax(axis=1)
    np.savez(place / "calib.npz", image=images[:100], labels=labels[:100])
    np.savez(place / "test.npz", image=images[100:], labels=labels[100:])
    return place


def recipe(folder: Path, limit: float, name: str) -> str:
    (folder / name).write_text(RECIPE.format(limit=limit), "utf-8")
    return str(folder / name)


def test_it_ends_with_a_recipe_that_passes(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["tune", recipe(folder, 1.5, "fails.toml"), "--out", str(folder / "tuned"), "--json"]
    assert main(words) == 0
    found = json.loads(capfd.readouterr().out)
    receipts = found["receipts"]
    assert found["passed"]
    assert receipts[0]["step"] == "as it is"
    assert receipts[0]["drop"] > 10
    assert receipts[-1]["step"] == "pass equalize"
    assert receipts[-1]["verdict"] == "passed"
    assert receipts[-1]["drop"] <= 1.5
    assert receipts[-1]["points"] > 5
    assert all(row["verdict"] in {"kept", "no help"} for row in receipts[1:-1])
    chance = 100 * np.sqrt(0.005 / 200)  # points: of 200 samples, one that turns
    assert all((row["points"] > chance) == (row["verdict"] == "kept") for row in receipts[1:-1])
    assert (folder / "tuned" / "tune.html").read_text("utf-8").count('role="img"') == 1
    assert main(["export", str(folder / "tuned" / "recipe.toml"), "--out", str(folder / "bundle")]) == 0
    assert 'passes = ["equalize"]' in (folder / "bundle" / "recipe.toml").read_text("utf-8")


def test_a_recipe_that_passes_is_left_alone(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = recipe(folder, 100, "passes.toml")
    assert main(["tune", given, "--out", str(folder / "same")]) == 0
    assert "as it is" in capfd.readouterr().out
    assert read_recipe(folder / "same" / "recipe.toml").quantize == read_recipe(Path(given)).quantize
    found = json.loads((folder / "same" / "tune.json").read_text("utf-8"))
    assert [(row["step"], row["verdict"]) for row in found["receipts"]] == [("as it is", "passed")]


def test_what_cannot_be_met_says_so_and_keeps_the_best(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No remedy makes a file smaller than nothing."""
    text = RECIPE.format(limit=100) + "max_bytes = 10\n"
    (folder / "small.toml").write_text(text.replace('granularity = "tensor"\n', ""), "utf-8")
    assert main(["tune", str(folder / "small.toml"), "--out", str(folder / "small"), "--json"]) == 1
    found = json.loads(capfd.readouterr().out)
    assert not found["passed"]
    assert any("max_bytes" in reason for reason in found["reasons"])
    assert [row["step"] for row in found["receipts"]] == ["as it is"], "no remedy of accuracy can help with that"


LADDER = [
    "observer mse", "observer percentile", "weights clipped (mse)", "pass equalize", "pass smooth", "pass rotate",
    "bias correction", "GPTQ, bias corrected", "AdaRound, bias corrected", "float for ", "fine-tuning",
]  # fmt: skip


def climbed(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch, drop: Callable[[Recipe], float], **given: object
) -> Tuning:
    """The ladder over drops that a function gives in place of the checker: what is under test is what it tries."""

    def measured(recipe: Recipe, *_: object) -> ladder._Measured:
        lost = drop(recipe)
        return ladder._Measured(lost <= 1.5, lost, 1.0, 1000, [])

    monkeypatch.setattr(ladder, "_measure", measured)
    wanted = with_overrides(read_recipe(Path(recipe(folder, 1.5, "climbed.toml"))), given)
    return tune(wanted, open_subject(wanted, folder), base=folder, out=out)


def test_remedies_are_tried_from_the_cheapest_to_training(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"finetune.data": "calib.npz", "finetune.epochs": 3}
    found = climbed(folder, tmp_path, monkeypatch, lambda recipe: 10.0, **given)
    steps = [row.step for row in found.receipts[1:]]
    assert len(steps) == len(LADDER)
    assert all(step.startswith(name) for step, name in zip(steps, LADDER, strict=True)), steps
    assert {row.verdict for row in found.receipts[1:]} == {"no help"}
    assert not found.passed
    assert found.recipe.quantize == read_recipe(folder / "climbed.toml").quantize, "what does not help is not kept"


def test_what_helps_is_kept_and_built_upon(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that cannot be made is told and passed over."""

    def drop(recipe: Recipe) -> float:
        wishes = recipe.quantize
        if wishes.observer == "percentile":
            raise DataError("no such range")
        return 10.0 - 3 * (wishes.rounder == "mse") - 3 * ("smooth" in wishes.passes) - 3 * wishes.bias_correction

    found = climbed(folder, tmp_path, monkeypatch, drop)
    verdicts = {row.step: row.verdict for row in found.receipts}
    assert verdicts == {
        "as it is": "failed", "observer mse": "no help", "observer percentile": "no such range",
        "weights clipped (mse)": "kept", "pass equalize": "no help", "pass smooth": "kept", "pass rotate": "no help",
        "bias correction": "passed",
    }  # fmt: skip
    assert [row.drop for row in found.receipts] == [10, 10, None, 7, 7, 4, 4, 1]
    assert [row.points for row in found.receipts] == [None, 0, None, 3, 0, 3, 0, 3]
    wishes = read_recipe(tmp_path / "recipe.toml").quantize
    assert (wishes.rounder, wishes.passes, wishes.bias_correction) == ("mse", ["smooth"], True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RECIPE.replace("max_drop = {limit}", ""), "needs gates.max_drop"),
        (RECIPE.format(limit=1).replace('evaluation = "test.npz"', ""), "needs data.evaluation"),
    ],
)
def test_mistakes(folder: Path, capfd: pytest.CaptureFixture[str], text: str, words: str) -> None:
    (folder / "bad.toml").write_text(text, "utf-8")
    assert main(["tune", str(folder / "bad.toml"), "--out", str(folder / "bad")]) == 2
    assert words in capfd.readouterr().err
    assert not (folder / "bad").exists()


def test_a_rung_that_cannot_be_climbed_is_told_and_passed_over(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search may refuse: what was found until then is not lost, and training is still tried."""

    def refused(*_: object, **__: object) -> None:
        raise DataError("no plan fits")

    monkeypatch.setattr(rungs, "search", refused)
    given = {"quantize.weights": "int4", "finetune.data": "calib.npz", "finetune.epochs": 3}
    found = climbed(folder, tmp_path, monkeypatch, lambda recipe: 10.0, **given)
    verdicts = {row.step: row.verdict for row in found.receipts}
    assert verdicts["mixed precision"] == "no plan fits"
    assert list(verdicts)[-1] == "fine-tuning"
