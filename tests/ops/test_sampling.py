"""Reading images at computed places: both runtimes, fixed and symbolic batch."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.numbers import noise
from tests.ops.compare import Case, agree, both

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


DEFORMED = {
    "plain": ((4, 3, 3, 3), {"pads": [1, 1, 1, 1]}, 1, False),
    "mask, stride, dilation": ((4, 3, 3, 2), {"strides": [2, 1], "dilations": [1, 2]}, 1, True),
    "groups": ((6, 2, 2, 2), {"group": 2, "offset_group": 4}, 4, True),
}


@pytest.mark.parametrize("name", DEFORMED)
@pytest.mark.parametrize("batch", [0, 3])
def test_deform_conv(name: str, batch: int) -> None:
    weight, attributes, parts, masked = DEFORMED[name]
    channels = weight[1] * attributes.get("group", 1)
    plain = Case("Conv", (batch or 1, channels, 6, 7), (noise(*weight),), {**attributes})
    plain.attributes.pop("offset_group", None)  # type: ignore[attr-defined]
    rows, columns = both(*plain.graph()).expected[0].shape[2:]
    taps = weight[2] * weight[3]
    lead = batch or 1
    offset = noise(lead, 2 * parts * taps, rows, columns) * 2
    mask = noise(lead, parts * taps, rows, columns) if masked else None
    rest = (noise(*weight), offset, noise(weight[0]), mask)
    computed = (1, 3) if masked else (1,)
    case = Case("DeformConv", (1, channels, 6, 7), rest, attributes, computed=computed)
    agree(both(*case.graph(batch=batch)))


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("places", ["half_pixel", "output_half_pixel"])
def test_roi_align(mode: str, places: str) -> None:
    rois = np.asarray([[0, 0, 9, 9], [2.5, 1, 4, 8], [-3, -2, 12, 3], [5, 5, 5.2, 5.1]], np.float32)
    attributes = {
        "mode": mode, "coordinate_transformation_mode": places, "output_height": 3, "output_width": 2,
        "sampling_ratio": 2, "spatial_scale": 0.7,
    }  # fmt: skip
    case = Case("RoiAlign", (2, 3, 6, 7), (rois, np.asarray([0, 1, 1, 0])), attributes, computed=(0, 1))
    agree(both(*case.graph()))


COLUMNS = {
    "blocks side by side": ((1, 8, 6), [4, 6], [2, 2], {"strides": [2, 2]}),
    "overlapping": ((2, 18, 20), [6, 7], [3, 3], {}),
    "padded, dilated": ((2, 12, 9), [5, 5], [2, 3], {"pads": [0, 1, 0, 1], "dilations": [2, 2], "strides": [1, 1]}),
    "a volume": ((1, 16, 12), [3, 4, 3], [2, 2, 2], {}),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("batch", [0, 3])
def test_col2im(name: str, batch: int) -> None:
    shape, image, block, attributes = COLUMNS[name]
    agree(both(*Case("Col2Im", shape, (np.asarray(image), np.asarray(block)), attributes).graph(batch=batch)))
