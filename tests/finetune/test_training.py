"""Training: it learns, both artifacts show the metric that it reports, and a run that was killed ends the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import exporter
from exporter import cli
from exporter.data import open_dataset
from exporter.errors import DataError, KbitError, RecipeError
from exporter.finetune import History, Trained, finetune, training
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantization import quantize
from exporter.recipe import Finetune, InputSpec, Quantize
from exporter.types import Rounded
from tests.quantize.graphs import model_of, run

TEXT = (
    "main (float[N,3,8,8] image) => (float[N,4] scores) { c = Conv<pads=[1,1,1,1]>(image, w, b) r = Relu(c) "
    "d = Conv<pads=[1,1,1,1], strides=[2,2]>(r, w2, b2) s = Relu(d) g = GlobalAveragePool(s) f = Flatten(g) "
    "scores = Gemm(f, v) }"
)
INPUTS = {"image": InputSpec(["N", 3, 8, 8])}


def net() -> ir.Model:
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "v": (8, 4)}
    return model_of(TEXT, **{name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})


def images(count: int, seed: int) -> dict[str, np.ndarray]:
    """The float network's own answers as labels."""
    x = np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)
    return {"image": x, "labels": run(net(), {"image": x})["scores"].argmax(1)}


WISHES = Finetune(data="train", epochs=3, batch_size=32, learning_rate=1e-2)


@pytest.fixture(scope="module")
def start() -> tuple[ir.Model, Rounded]:
    model = prepare(net(), INT8_PASSES)
    batches = lambda: [{"image": images(64, 1)["image"]}]  # noqa: E731
    found = quantize(model, Quantize(weights="int2", rounder="nearest"), batches)
    return found.model, found.rounded


def trained(start: tuple[ir.Model, Rounded], wishes: Finetune = WISHES, **given: Any) -> tuple[Trained, History]:
    data = open_dataset(given.pop("data", images(200, 2)), INPUTS)
    return finetune(*start, data, wishes, teacher=start[0], **given)


def same(a: Trained, b: Trained) -> bool:
    equal = all(np.array_equal(a.rounded.integers[n], b.rounded.integers[n]) for n in a.rounded.integers)
    return equal and a.rounded.plan.to_json() == b.rounded.plan.to_json()


def test_it_learns(start: tuple[ir.Model, Rounded]) -> None:
    found, history = trained(start)
    first, best = history.epochs[0], history.epochs[history.kept]
    assert first.held_out is not None
    assert best.held_out is not None
    assert best.held_out < 0.8 * first.held_out
    assert any((found.rounded.integers[n] != start[1].integers[n]).any() for n in start[1].integers)
    assert same(found, trained(start)[0]), "the same seed gives the same bytes"


@pytest.mark.parametrize("metric", ["top1", "mse"])
def test_without_labels(start: tuple[ir.Model, Rounded], metric: str) -> None:
    history = trained(start, data={"image": images(100, 2)["image"]}, metric=metric)[1]
    assert history.epochs[-1].metric is None
    assert history.epochs[history.kept].held_out < history.epochs[0].held_out  # type: ignore[operator]


def test_a_killed_run_goes_on_and_ends_the_same(
    start: tuple[ir.Model, Rounded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "train.ckpt"
    whole = trained(start)
    epochs = training._Run.epoch

    def killed(self: Any, number: int, told: Any) -> None:
        if number == 2:
            raise KeyboardInterrupt
        epochs(self, number, told)

    monkeypatch.setattr(training._Run, "epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(start, checkpoint=place)
    seen = []
    monkeypatch.setattr(
        training._Run, "epoch", lambda self, number, told: (seen.append(number), epochs(self, number, told))
    )
    resumed = trained(start, checkpoint=place)
    assert seen == [2, 3]
    assert same(resumed[0], whole[0])
    assert resumed[1] == whole[1]
    with pytest.raises(DataError, match="another model, data set or recipe"):
        trained(start, Finetune(data="train", epochs=4, batch_size=32), checkpoint=place)
    with pytest.raises(DataError, match="another model, data set or recipe"):
        trained(start, data=images(200, 9), checkpoint=place)  # as many samples from the same place, but others
    place.write_bytes(b"no checkpoint")
    with pytest.raises(DataError, match="is not a checkpoint"):
        trained(start, checkpoint=place)


def test_it_ends_early_and_keeps_the_best(start: tuple[ir.Model, Rounded]) -> None:
    wishes = Finetune(data="train", epochs=50, batch_size=64, learning_rate=20.0, patience=1)
    found, history = trained(start, wishes)
    assert len(history.epochs) < 51
    assert history.kept == len(history.epochs) - 2
    losses = [epoch.held_out for epoch in history.epochs]
    assert losses[history.kept] == min(losses)
    untouched = all(np.array_equal(found.rounded.integers[n], start[1].integers[n]) for n in start[1].integers)
    assert untouched == (history.kept == 0)


def test_masked_weights_stay_zero(start: tuple[ir.Model, Rounded]) -> None:
    mask = np.random.default_rng(3).random((8, 8, 3, 3)) < 0.5
    found = trained(start, masks={"w2": mask})[0].rounded
    grid = found.plan.tensors["w2"].qparams
    assert grid is not None
    zero = np.broadcast_to(grid.zero_point.reshape(-1, 1, 1, 1), mask.shape)
    assert (found.integers["w2"] == zero)[~mask].all()
    assert (found.integers["w2"] != zero)[mask].any()


@pytest.mark.parametrize(
    ("wishes", "data", "line"),
    [
        ({"distillation": 0.5}, {"image": images(20, 1)["image"]}, "no labels"),
        ({"distillation": 0.0}, images(20, 1), "labels serve top1"),
        ({}, {"image": images(1, 1)["image"]}, "at least 2"),
    ],
)
def test_a_mistake_is_named(start: tuple[ir.Model, Rounded], wishes: Any, data: Any, line: str) -> None:
    with pytest.raises(DataError, match=line):
        trained(start, Finetune(data="train", **wishes), data=data, metric="cosine")


def export(out: Path, **keys: Any) -> exporter.Bundle:
    onnx.save(ir.to_proto(net()), out.parent / "net.onnx")
    data = {"calibration": images(64, 1)["image"], "evaluation": images(200, 4), "finetune": images(200, 2)}
    return exporter.export(out.parent / "net.onnx", out=out, **data, **keys)


def test_one_run_gives_both_artifacts_with_the_metric_that_training_reported(tmp_path: Path) -> None:
    bundle = export(tmp_path / "out", weights="int2", rounder="nearest", epochs=2, learning_rate=1e-2, distillation=1.0)
    (history,) = json.loads((bundle.path / "analysis.json").read_text())["training"]
    check = json.loads((bundle.path / "check.json").read_text())
    assert history["metric_name"] == "top1"
    for name in ("onnxruntime", "tflite"):
        assert check["artifacts"][name]["metric"] == pytest.approx(history["metric"], abs=0.1)
    assert check["agreement"]["equal"] == 1
    assert json.loads((bundle.path / "parity.json").read_text())["identical"]
    assert "How training went" in (bundle.path / "report.html").read_text()


def test_a_model_that_stays_in_float_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="stays in float"):
        export(tmp_path / "out", weights="float", activations="float")
    assert not (tmp_path / "out").exists()


def test_the_command_says_how_it_went(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    onnx.save(ir.to_proto(net()), tmp_path / "net.onnx")
    for name, data in {"calib": images(64, 1), "train": images(100, 2)}.items():
        np.savez(tmp_path / f"{name}.npz", **data)
    words = ["export", str(tmp_path / "net.onnx"), "--calibration", str(tmp_path / "calib.npz"), "--finetune"]
    code = cli.main([*words, str(tmp_path / "train.npz"), "--epochs", "1", "--out", str(tmp_path / "out")])
    assert code == 0
    out = " ".join(capfd.readouterr().out.split())
    (history,) = json.loads((tmp_path / "out" / "analysis.json").read_text())["training"]
    (first, best), kept = [history["epochs"][i] for i in (0, history["kept"])], history["kept"]
    losses = f"held-out loss {first['held_out']:.4f}".rstrip("0"), f"-> {best['held_out']:.4f}".rstrip("0")
    assert f"finetune: 1 epochs, the best is {kept}; {losses[0]} {losses[1]}" in out


def test_a_diverging_run_is_an_error(start: tuple[ir.Model, Rounded]) -> None:
    with pytest.raises(KbitError, match="learning_rate"):
        trained(start, Finetune(data="train", epochs=2, learning_rate=1e30))
