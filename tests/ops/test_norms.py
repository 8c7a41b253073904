"""Normalisations: both runtimes, fixed and symbolic batch, computed parameters, and no TRANSPOSE inside a CNN."""

from __future__ import annotations

import numpy as np
import pytest

from tests.numbers import noise
from tests.ops.compare import Case, agree, both, tflite

LINE, IMAGE, VOLUME = (2, 4, 9), (2, 4, 5, 6), (2, 4, 3, 4, 5)
SQUARES = np.abs(noise(4)) + 0.5


def norm(op: str, shape: tuple[int, ...], *rest: np.ndarray | None, **attributes: object) -> Case:
    return Case(op, shape, rest, attributes)


CASES = {
    "layer": norm("LayerNormalization", (2, 5, 8), noise(8), noise(8)),
    "layer, no bias": norm("LayerNormalization", (2, 5, 8), noise(8), epsilon=1e-2),
    "layer, two axes": norm("LayerNormalization", IMAGE, noise(5, 6), noise(5, 6), axis=2),
    "layer, from the channels on": norm("LayerNormalization", IMAGE, noise(4, 5, 6), noise(4, 5, 6), axis=1),
    "batch": norm("BatchNormalization", IMAGE, noise(4), noise(4), noise(4), SQUARES),
    "batch 1d": norm("BatchNormalization", LINE, noise(4), noise(4), noise(4), SQUARES, epsilon=1e-3),
    "batch 3d": norm("BatchNormalization", VOLUME, noise(4), noise(4), noise(4), SQUARES),
    "batch of vectors": norm("BatchNormalization", (2, 4), noise(4), noise(4), noise(4), SQUARES),
    "instance": norm("InstanceNormalization", IMAGE, noise(4), noise(4)),
    "instance 1d": norm("InstanceNormalization", LINE, noise(4), noise(4), epsilon=1e-2),
    "group": norm("GroupNormalization", IMAGE, noise(4), noise(4), num_groups=2),
    "group 3d": norm("GroupNormalization", VOLUME, noise(4), noise(4), num_groups=2),
    "one group": norm("GroupNormalization", LINE, noise(4), noise(4), num_groups=1),
    "l2": norm("LpNormalization", IMAGE, axis=1),
    "l1": norm("LpNormalization", LINE, p=1),
    "mean and variance": norm("MeanVarianceNormalization", IMAGE),
    "mean and variance, axes": norm("MeanVarianceNormalization", VOLUME, axes=[2, 3, 4]),
    "local response": norm("LRN", IMAGE, size=3, alpha=0.4, beta=0.6, bias=0.7),
    "rms": Case("RMSNormalization", IMAGE, (noise(6),), opset=23),
}


@pytest.mark.parametrize("name", CASES)
def test_fixed(name: str) -> None:
    agree(both(*CASES[name].graph()))


@pytest.mark.parametrize("name", CASES)
def test_any_batch(name: str) -> None:
    agree(both(*CASES[name].graph(batch=3)))


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.shape == IMAGE])
def test_in_a_cnn(name: str) -> None:
    pair = both(*CASES[name].graph(anchored=True, batch=2), channels_last=True)
    agree(pair)
    assert "TRANSPOSE" not in pair.codes


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.rest])
def test_computed(name: str) -> None:
    case = CASES[name]
    every = tuple(range(len(case.rest)))
    agree(both(*Case(case.op, case.shape, case.rest, case.attributes, computed=every, opset=case.opset).graph()))


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_mean_and_deviation(axis: int) -> None:
    shape = (2, 4, 5, 6)
    scale = noise(*shape[axis:])
    agree(both(*Case("LayerNormalization", shape, (scale,), {"axis": axis}, outputs=(np.float32,) * 3).graph()))


def test_statistics_of_the_batch() -> None:
    rest = (noise(4), noise(4), noise(4), SQUARES)
    training = Case("BatchNormalization", IMAGE, rest, {"training_mode": 1, "momentum": 0.7}, outputs=(np.float32,) * 3)
    agree(both(*training.graph()))
    agree(both(*training.graph(batch=5)))


def test_scale_of_each_group() -> None:
    """The meaning before opset 21."""
    case = Case("GroupNormalization", IMAGE, (noise(2), noise(2)), {"num_groups": 2}, opset=20)
    agree(both(*case.graph()))


@pytest.mark.parametrize(("shape", "size"), [((2, 7, 3, 4), 4), ((2, 4, 9), 3), ((2, 4, 2, 3, 3), 9)])
def test_local_response_that_onnxruntime_lacks(shape: tuple[int, ...], size: int) -> None:
    x = noise(*shape)
    model, feeds = Case("LRN", shape, (), {"size": size, "alpha": 0.9}, x=x).graph()
    total = np.stack(
        [
            (x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1].astype(np.float64) ** 2).sum(1)
            for c in range(shape[1])
        ],
        1,
    )
    np.testing.assert_allclose(tflite(model, feeds)[0], x * (1 + 0.9 / size * total) ** -0.75, rtol=1e-5)


def test_zeros_stay_zeros() -> None:
    x = np.zeros((1, 3, 4), np.float32)
    x[0, 1] = 2
    agree(both(*Case("LpNormalization", x.shape, (), {"axis": -1}, x=x).graph()))
