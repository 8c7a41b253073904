"""Reading images at computed places: both runtimes, fixed and symbolic batch."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.ops.compare import Case, agree, both, noise

IMAGE, VOLUME = (2, 3, 5, 6), (2, 3, 3, 4, 5)
GRID = np.random.default_rng(2).uniform(-1.6, 1.6, (2, 4, 7, 2)).astype(np.float32)
GRID_3D = np.random.default_rng(3).uniform(-1.4, 1.4, (2, 2, 3, 4, 3)).astype(np.float32)
BORDERS = ["zeros", "border", "reflection"]


@pytest.mark.parametrize(("mode", "padding", "corners"), product(["linear", "nearest", "cubic"], BORDERS, [0, 1]))
def test_grid_sample(mode: str, padding: str, corners: int) -> None:
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    agree(both(*Case("GridSample", IMAGE, (GRID,), attributes, computed=(0,)).graph()))


@pytest.mark.parametrize(("mode", "padding", "corners"), product(["linear", "nearest"], BORDERS, [0, 1]))
def test_grid_sample_of_a_volume(mode: str, padding: str, corners: int) -> None:
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    agree(both(*Case("GridSample", VOLUME, (GRID_3D,), attributes, computed=(0,)).graph()))


def test_grid_sample_of_any_batch() -> None:
    model, feeds = Case("GridSample", IMAGE, (GRID,), {}, computed=(0,)).graph(batch=2)
    agree(both(model, feeds))


def test_grid_sample_in_a_cnn() -> None:
    pair = both(*Case("GridSample", IMAGE, (GRID,), {}).graph(anchored=True), channels_last=True)
    agree(pair)
    assert "TRANSPOSE" not in pair.codes


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("size", [(3, 4, 5, 6), (3, 4, 2, 3, 4)])
def test_affine_grid(size: tuple[int, ...], corners: int) -> None:
    axes = len(size) - 2
    theta = noise(3, axes, axes + 1)
    case = Case("AffineGrid", theta.shape, (np.asarray(size),), {"align_corners": corners}, x=theta)
    agree(both(*case.graph()))
