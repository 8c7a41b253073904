"""Resize in every mode: both runtimes, fixed and symbolic batch, and the builtins where they do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import UnsupportedError
from tests.numbers import noise
from tests.ops.compare import Case, agree, both

LINE, IMAGE, VOLUME = (1, 2, 7), (1, 2, 6, 7), (1, 2, 4, 5, 6)


def scaled(shape: tuple[int, ...], *scales: float, roi: Any = None, **attributes: Any) -> Case:
    return Case("Resize", shape, (roi, np.asarray([1, 1, *scales], np.float32)), attributes)


def sized(shape: tuple[int, ...], *sizes: int, **attributes: Any) -> Case:
    return Case("Resize", shape, (None, None, np.asarray([1, 2, *sizes], np.int64)), attributes)


ROI = np.asarray([0, 0, 0.1, 0.25, 1, 1, 0.8, 1.3], np.float32)

# case, the builtin that stays alone
CASES = {
    "nearest x2": (scaled(IMAGE, 2, 2, mode="nearest", coordinate_transformation_mode="asymmetric",
                          nearest_mode="floor"), "RESIZE_NEAREST_NEIGHBOR"),
    "nearest, half pixel": (scaled(IMAGE, 2, 3, mode="nearest"), "RESIZE_NEAREST_NEIGHBOR"),
    "nearest, odd": (sized(IMAGE, 4, 10, mode="nearest", nearest_mode="ceil"), ""),
    "nearest 1d": (scaled(LINE, 2, mode="nearest"), "RESIZE_NEAREST_NEIGHBOR"),
    "nearest 3d": (scaled(VOLUME, 2, 1, 1.5, mode="nearest"), ""),
    "linear": (scaled(IMAGE, 2, 2, mode="linear"), "RESIZE_BILINEAR"),
    "linear, sizes": (sized(IMAGE, 13, 4, mode="linear"), "RESIZE_BILINEAR"),
    "linear, align corners": (sized(IMAGE, 11, 9, mode="linear", coordinate_transformation_mode="align_corners"),
                              "RESIZE_BILINEAR"),
    "linear, asymmetric": (scaled(IMAGE, 2, 3, mode="linear", coordinate_transformation_mode="asymmetric"),
                           "RESIZE_BILINEAR"),
    "linear, as torch": (sized(IMAGE, 3, 14, mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
                         "RESIZE_BILINEAR"),
    "linear 1d": (scaled(LINE, 3, mode="linear"), "RESIZE_BILINEAR"),
    "linear, broken scale": (scaled(IMAGE, 0.6, 1.7, mode="linear"), ""),
    "linear 3d": (scaled(VOLUME, 2, 2, 0.5, mode="linear"), ""),
    "linear, antialias": (sized(IMAGE, 3, 4, mode="linear", antialias=1), ""),
    "linear, antialias, up": (sized(IMAGE, 12, 14, mode="linear", antialias=1), "RESIZE_BILINEAR"),
    "nearest, of channels": (Case("Resize", IMAGE, (None, np.asarray([1, 2, 1, 2], np.float32))), ""),
    "cubic": (scaled(IMAGE, 2, 1.5, mode="cubic"), ""),
    "cubic, as torch": (sized(IMAGE, 9, 3, mode="cubic", coordinate_transformation_mode="pytorch_half_pixel"), ""),
    "cubic, outside does not count": (scaled(IMAGE, 0.5, 2, mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1), ""),
    "cubic, antialias": (sized(IMAGE, 3, 3, mode="cubic", antialias=1), ""),
    "crop": (Case("Resize", IMAGE, (ROI, None, np.asarray([1, 2, 4, 5])), {
        "mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0}), ""),
    "crop, nearest": (Case("Resize", IMAGE, (ROI, None, np.asarray([1, 2, 4, 5])), {
        "mode": "nearest", "coordinate_transformation_mode": "tf_crop_and_resize"}), ""),
    "axes": (Case("Resize", IMAGE, (None, None, np.asarray([9, 3])), {"mode": "linear", "axes": [3, 2]}),
             "RESIZE_BILINEAR"),
    "keep the aspect": (Case("Resize", IMAGE, (None, None, np.asarray([9, 9])), {
        "mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_fixed(name: str) -> None:
    case, builtin = CASES[name]
    pair = both(*case.graph())
    agree(pair)
    assert not builtin or builtin in pair.codes


@pytest.mark.parametrize("name", CASES)
def test_any_batch(name: str) -> None:
    case, _ = CASES[name]
    roi, scales, *sizes = case.rest
    attributes = dict(case.attributes)
    if sizes and len(sizes[0]) == 4:  # a size for the batch would fix it
        sizes = [sizes[0][2:]]
        attributes["axes"] = [2, 3]
        roi = None if roi is None else roi[[2, 3, 6, 7]]
    agree(both(*Case("Resize", case.shape, (roi, scales, *sizes), attributes).graph(batch=3)))


@pytest.mark.parametrize("name", [n for n, (c, _) in CASES.items() if len(c.shape) == 4])
def test_in_a_cnn(name: str) -> None:
    pair = both(*CASES[name][0].graph(anchored=True), channels_last=True)
    agree(pair)
    assert "TRANSPOSE" not in pair.codes


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_a_long_axis(mode: str) -> None:
    """Gathers of the taps: a matrix would be mostly zeros."""
    pair = both(*scaled((1, 2, 3, 300), 1, 1.25, mode=mode).graph())
    agree(pair, 1e-4)  # RESIZE_BILINEAR and ONNX Runtime round coordinates in float32, each in its own way
    assert mode == "linear" or "GATHER" in pair.codes


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_types(dtype: type) -> None:
    x = (np.arange(84).reshape(IMAGE) % 100).astype(dtype)
    case = Case("Resize", IMAGE, (None, np.asarray([1, 1, 2, 1.5], np.float32)), {}, outputs=(dtype,), x=x)
    agree(both(*case.graph()), 0)
    with pytest.raises(UnsupportedError, match="linear"):
        both(*Case("Resize", IMAGE, case.rest, {"mode": "linear"}, outputs=(dtype,), x=x).graph())


def test_computed_scales_are_refused() -> None:
    case = Case("Resize", IMAGE, (None, np.asarray([1, 1, 2, 2], np.float32)), {}, computed=(1,))
    with pytest.raises(UnsupportedError, match=r"scales|shape"):
        both(*case.graph())


PLACES = [
    "half_pixel",
    "pytorch_half_pixel",
    "asymmetric",
    "align_corners",
    "half_pixel_symmetric",
    "tf_crop_and_resize",
]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_anything(data: st.DataObject) -> None:
    """The same numbers as ONNX Runtime, or a refusal where it departs from ONNX."""
    draw = data.draw
    shape = (1, 2, *draw(st.lists(st.integers(2, 7), min_size=2, max_size=2)))
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": draw(st.sampled_from(PLACES))}
    if mode == "nearest":
        attributes["nearest_mode"] = draw(st.sampled_from(ROUNDINGS))
    else:
        attributes["antialias"] = draw(st.integers(0, 1))
    if mode == "cubic":
        attributes["exclude_outside"] = draw(st.integers(0, 1))
    roi = None
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        part = st.floats(-0.25, 1.25, width=16)
        roi = np.asarray([0, 0, draw(part), draw(part), 1, 1, draw(part), draw(part)], np.float32)
        attributes["extrapolation_value"] = 3.0
    if draw(st.booleans()):
        scale = st.sampled_from([0.5, 0.6, 1, 1.5, 2, 2.5, 3])
        rest: tuple[Any, ...] = (roi, np.asarray([1, 1, draw(scale), draw(scale)], np.float32))
    else:
        rest = (roi, None, np.asarray([1, 2, draw(st.integers(1, 12)), draw(st.integers(1, 12))], np.int64))
    case = Case("Resize", shape, rest, attributes, x=noise(*shape))
    try:
        pair = both(*case.graph())
    except UnsupportedError:
        return
    agree(pair, 2e-5)
