"""Each finding of the linter on real images that are really faulty, and silence on those that are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from benchmarks.measure import data
from benchmarks.resnet20 import RECIPE, recipe
from exporter.cli import main
from exporter.linting import Finding, lint
from exporter.loading import load
from exporter.recipe import with_overrides
from exporter.subject import Source, open_subject

Arrays = dict[str, Any]
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory, need: Callable[..., None]) -> Path:
    """ResNet-20 as ONNX, so that torch exports it once."""
    need("resnet20-12fca82f.th", "cifar10_calib.npz", "cifar10_test2000.npz")
    path = tmp_path_factory.mktemp("lint") / "resnet20.onnx"
    ir.save(load(recipe().model, base=RECIPE.parent), path)
    return path


def samples(name: str = "cifar10_calib.npz", count: int = 310) -> Arrays:
    with np.load(data(name)) as body:
        return {"images": body["images"][:count], "labels": body["labels"][:count]}


def judged() -> Arrays:
    return samples("cifar10_test2000.npz", 100)


def found(path: Path, calibration: Arrays | None, changes: Arrays | None = None, **also: Any) -> list[Finding]:
    wanted = with_overrides(recipe(), {"model.source": str(path), "model.checkpoint": None, **(changes or {})})
    subject = open_subject(wanted, Path(), Source(wanted.model, None, calibration, judged(), **also))
    return lint(wanted, subject, subject.prepared())


def with_images(arrays: Arrays, images: Any) -> Arrays:
    return {**arrays, "images": images}


def reshaped(arrays: Arrays) -> Arrays:
    ready = ((arrays["images"] / 255 - MEAN) / STD).astype(np.float32)
    return with_images(arrays, ready.reshape(-1, 32, 32, 3).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def divided(arrays: Arrays) -> Arrays:
    return with_images(arrays, arrays["images"] / np.float32(255))


def with_copies(arrays: Arrays) -> Arrays:
    images = arrays["images"].copy()
    images[100:110] = images[:10]
    return with_images(arrays, images)


def with_blanks(arrays: Arrays) -> Arrays:
    images = arrays["images"].copy()
    images[[7, 30]] = 0
    return with_images(arrays, images)


def first(count: int) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {name: array[:count] for name, array in arrays.items()}


def without(*classes: int) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {n: a[~np.isin(arrays["labels"], classes)] for n, a in arrays.items()}


def plain(scale: float) -> Arrays:
    return {f"data.preprocess.image.{key}": value for key, value in (("scale", scale), ("mean", 0.0), ("std", 1.0))}


# name -> (what is done to the samples, changes to the recipe, kind, what the finding says)
FAULTS: dict[str, tuple[Callable[[Arrays], Arrays], Arrays, str, str]] = {
    "raw pixels": (dict, plain(1.0), "preprocessing", "up to 255: raw pixels"),
    "other normalisation": (dict, plain(1 / 255), "preprocessing", "ImageNet's mean and std on"),
    "scaled twice": (lambda a: with_images(a, a["images"] / np.float32(255)), {}, "preprocessing", "scaled twice"),
    "stored otherwise": (
        lambda a: with_images(a, a["images"] / np.float32(255)),
        {},
        "preprocessing",
        "evaluation set",
    ),
    "blue first": (lambda a: with_images(a, a["images"][..., ::-1]), {}, "preprocessing", "red and blue exchanged"),
    "reshaped": (reshaped, plain(1.0), "layout", "the colours lie interleaved"),
    "copies": (with_copies, {}, "duplicates", "10 samples equal to an earlier one"),
    "blanks": (with_blanks, {}, "constant", "2 samples of one number"),
    "classes missing": (without(3, 5), {}, "classes", "none of class 3, 5 (2 of 10"),
    "few for minmax": (first(16), {"quantize.observer": "minmax"}, "too few", "16 samples for observer 'minmax'"),
    "few for percentile": (first(40), {}, "too few", "40 samples for observer 'percentile'"),
    "few for gptq": (first(48), {"quantize.weights": "int4", "quantize.observer": "minmax"}, "too few", "more inputs"),
}


def test_good_data_are_not_talked_about(float_file: Path) -> None:
    assert found(float_file, samples()) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(float_file: Path, fault: str) -> None:
    spoil, changes, kind, words = FAULTS[fault]
    findings = found(float_file, spoil(samples()), changes)
    assert [f for f in findings if f.kind == kind and words in f.found and f.remedy], findings


def test_evaluation_samples_in_the_calibration_set(float_file: Path) -> None:
    leaked = {name: np.concatenate([array[:300], judged()[name][20:25]]) for name, array in samples().items()}
    (leak,) = found(float_file, leaked)
    assert leak.kind == "leak"
    assert leak.samples == (300, 301, 302, 303, 304)
    assert "5 samples of the evaluation set" in leak.found


@pytest.mark.parametrize("calibrated", [True, False])
def test_evaluation_samples_among_the_training_samples(float_file: Path, calibrated: bool) -> None:
    training = {name: np.concatenate([array[:40], judged()[name][7:9]]) for name, array in samples().items()}
    (leak,) = found(float_file, samples() if calibrated else None, training=training)
    assert (leak.kind, leak.samples) == ("leak", (40, 41))
    assert leak.remedy.startswith("train with others")


def test_the_command(float_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "copies.npz", **with_copies(samples()))
    text = RECIPE.read_text("utf-8").replace("../../shared/data/cifar10_calib.npz", "copies.npz")
    text = text.replace("../../shared/data/cifar10_test2000.npz", str(data("cifar10_test2000.npz")))
    text = text.replace("../tests/nets/resnet.py:resnet20", str(float_file)).replace("checkpoint =", "# checkpoint =")
    (tmp_path / "recipe.toml").write_text(text, "utf-8")
    assert main(["lint", str(tmp_path / "recipe.toml")]) == 1
    out = capfd.readouterr().out
    assert out.startswith("data, duplicates: ")
    assert out.count("\n") == 1
    assert main(["lint", str(tmp_path / "recipe.toml"), "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["findings"][0]["samples"] == [100, 101, 102, 103, 104]
