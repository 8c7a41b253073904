"""ResNet-20 on CIFAR-10, from checkpoint to both int8 artifacts: what they score, and one set of numbers in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import resnet20
from benchmarks.measure import cifar10
from benchmarks.runners import onnx_runner, tflite_runner
from exporter.pipeline import Outcome
from tests.acceptance.artifacts import Numbers, read_onnx, read_tflite

pytestmark = pytest.mark.xdist_group("resnet20")  # one export serves all tests here
DATA = ("resnet20-12fca82f.th", "cifar10_calib.npz", "cifar10_test2000.npz")


@pytest.fixture(scope="module")
def outcome(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    need(*DATA)
    return resnet20.export(tmp_path_factory.mktemp("resnet20") / "bundle")


@pytest.fixture(scope="module")
def files(outcome: Outcome) -> Mapping[str, Path]:
    return {name: outcome.bundle.artifact(name) for name in ("onnxruntime", "tflite")}


@pytest.fixture(scope="module")
def numbers(files: Mapping[str, Path]) -> tuple[Numbers, Numbers]:
    return read_onnx(files["onnxruntime"]), read_tflite(files["tflite"])


def test_every_integer_scale_and_zero_point_is_the_same(numbers: tuple[Numbers, Numbers]) -> None:
    onnx, tflite = numbers
    assert len(onnx.layers) == 20
    assert onnx.layers.keys() == tflite.layers.keys(), "weight integers"
    for key, ours in onnx.layers.items():
        theirs = tflite.layers[key]
        assert ours.weight.shape == theirs.weight.shape
        np.testing.assert_array_equal(ours.weight_scale, theirs.weight_scale, strict=True)
        np.testing.assert_array_equal(ours.bias, theirs.bias, strict=True)
        np.testing.assert_array_equal(ours.bias_scale, theirs.bias_scale, strict=True)
        assert (ours.input, ours.output) == (theirs.input, theirs.output)
    assert sum(onnx.adds.values()) == 9
    assert onnx.adds == tflite.adds
    assert onnx.grids == tflite.grids


def test_no_transpose_and_no_float_arithmetic(numbers: tuple[Numbers, Numbers]) -> None:
    ops = numbers[1].ops
    assert ops["TRANSPOSE"] == 0
    assert (ops["QUANTIZE"], ops["DEQUANTIZE"]) == (1, 1), "only at the edges"


def test_outputs_measured_here(files: Mapping[str, Path], numbers: tuple[Numbers, Numbers]) -> None:
    """Both runtimes on all 2000 images, without the bundle's checker and its preprocessing."""
    images, labels = cifar10("cifar10_test2000.npz")
    run = {"onnxruntime": onnx_runner(files["onnxruntime"]), "tflite": tflite_runner(files["tflite"])}
    logits = {name: np.concatenate([go(image[None]) for image in images]) for name, go in run.items()}
    onnx, tflite = logits["onnxruntime"], logits["tflite"]
    for found in logits.values():
        assert 100 * np.mean(found.argmax(1) == labels) == pytest.approx(80.85, abs=0.25 + 1e-9)
    assert np.mean(onnx.argmax(1) == tflite.argmax(1)) >= 0.999
    (scale,) = {layer.output[0] for layer in numbers[1].layers.values() if layer.weight.ndim == 2}
    integers = np.rint(onnx / scale), np.rint(tflite / scale)
    assert np.mean(integers[0] == integers[1]) >= 0.95


def test_the_checker_says_the_same(outcome: Outcome) -> None:
    check: Mapping[str, Any] = outcome.check
    assert check["passed"], check["reasons"]
    for name in ("onnxruntime", "tflite"):
        facts = check["artifacts"][name]
        assert facts["metric"] + facts["drop"] == pytest.approx(80.85), "float"
        assert abs(facts["drop"]) <= 0.25 + 1e-9
    assert check["agreement"]["top1"] >= 0.999
    assert check["agreement"]["equal"] >= 0.95
