"""Every kind of weights with every kind of activations, of models of a fixed batch: whole runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from exporter import Recipe
from exporter.pipeline import run
from exporter.recipe import with_arguments
from tests.ops.text import graph

# an odd number of samples, so that batches of three leave one out
COUNT = 13
NET = (
    "(float[{batch},3,8,8] x, float[8,3,3,3] w, float[8] b, float[128,4] m, float[4] c) => (float[{batch},4] y)"
    " {{ h = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w, b) r = Relu(h)"
    " f = Flatten(r) z = MatMul(f, m) y = Add(z, c) }}"
)
RUNS = [
    (1, "int8", "int8", "nearest"),
    (3, "int8", "int8", "nearest"),
    (1, "int8", "float", "mse"),
    (3, "int4", "int8", "gptq"),
    (3, "int4", "int8", "adaround"),
    ("N", "int4", "dynamic", "hqq"),
    (1, "ternary", "int8", "nearest"),
    ("N", "float16", "float", "nearest"),
    (3, "float", "float", "nearest"),
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    images: npt.NDArray[np.float32] = rng.standard_normal((COUNT, 3, 8, 8)).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "samples.npz"
    np.savez(path, x=images, labels=rng.integers(0, 4, COUNT))
    return path


def recipe(batch: int | str, samples: Path, folder: Path, **keys: object) -> Recipe:
    path = folder / "model.onnx"
    onnx.save(graph(NET.format(batch=batch), constants=["w", "b", "m", "c"]), path)
    given = {"source": str(path), "calibration": str(samples), "evaluation": str(samples), **keys}
    return with_arguments(None, given)


@pytest.mark.parametrize(("batch", "weights", "activations", "rounder"), RUNS)
def test_a_whole_run(
    batch: int | str, weights: str, activations: str, rounder: str, samples: Path, tmp_path: Path
) -> None:
    wishes = {"weights": weights, "activations": activations, "rounder": rounder}
    outcome = run(recipe(batch, samples, tmp_path, **wishes), base=tmp_path, out=tmp_path / "bundle")
    assert outcome.check["passed"]
    assert outcome.check["agreement"]["top1"] == 1
    assert {"float", "onnxruntime", "tflite"} <= set(outcome.check["artifacts"])
