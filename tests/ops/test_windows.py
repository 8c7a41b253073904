"""Convolutions and pools: both runtimes, fixed and symbolic batch, computed weights, and no TRANSPOSE inside a CNN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from exporter.errors import UnsupportedError
from tests.numbers import noise
from tests.ops.compare import Case, agree, both, tflite

LINE, IMAGE, VOLUME = (1, 4, 9), (1, 4, 7, 9), (1, 4, 5, 6, 7)


def conv(shape: tuple[int, ...], weight: tuple[int, ...], **attributes: object) -> Case:
    return Case("Conv", shape, (noise(*weight), noise(weight[0])), attributes)


def transposed(shape: tuple[int, ...], weight: tuple[int, ...], **attributes: object) -> Case:
    group = int(attributes.get("group", 1))  # type: ignore[call-overload]
    return Case("ConvTranspose", shape, (noise(*weight), noise(weight[1] * group)), attributes)


def pool(op: str, shape: tuple[int, ...], **attributes: object) -> Case:
    return Case(op, shape, (), attributes)


CONVS = {
    "1d": conv(LINE, (6, 4, 3), pads=[1, 1]),
    "1d, dilated and causal": conv(LINE, (4, 4, 3), pads=[4, 0], dilations=[2]),
    "1d, depthwise, stride": conv(LINE, (8, 1, 3), group=4, strides=[2]),
    "2d, odd pads": conv(IMAGE, (4, 4, 3, 2), pads=[2, 0, 1, 3], strides=[2, 3]),
    "2d, groups": conv(IMAGE, (6, 2, 3, 3), group=2, auto_pad="SAME_UPPER", strides=[2, 2]),
    "2d, same lower": conv(IMAGE, (4, 4, 2, 4), auto_pad="SAME_LOWER"),
    "2d, valid": conv(IMAGE, (4, 4, 3, 3), auto_pad="VALID", dilations=[2, 3]),
    "2d, depthwise multiplier": conv(IMAGE, (12, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    "3d": conv(VOLUME, (3, 4, 3, 2, 3), pads=[1, 0, 2, 0, 1, 1], strides=[2, 1, 2]),
    "3d, groups, dilated": conv(VOLUME, (6, 2, 2, 2, 3), group=2, dilations=[2, 1, 2]),
    "3d, depthwise, same": conv(VOLUME, (4, 1, 3, 3, 3), group=4, auto_pad="SAME_UPPER", strides=[2, 2, 2]),
    "3d, one place deep": conv(VOLUME, (3, 4, 1, 1, 1)),
}

TRANSPOSED = {
    "1d, stride": transposed(LINE, (4, 3, 4), strides=[2], pads=[1, 1]),
    "2d, kernel is stride": transposed(IMAGE, (4, 3, 2, 2), strides=[2, 2]),
    "2d, as in a decoder": transposed(IMAGE, (4, 3, 3, 3), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
    "2d, kernel 4": transposed(IMAGE, (4, 3, 4, 4), strides=[2, 2], pads=[1] * 4),
    "2d, plain": transposed(IMAGE, (4, 3, 3, 3), pads=[1] * 4),
    "2d, strides differ": transposed(IMAGE, (4, 3, 3, 5), strides=[3, 2], pads=[0, 2, 1, 1]),
    "2d, stride beyond kernel": transposed(IMAGE, (4, 3, 1, 2), strides=[2, 3]),
    "2d, dilated": transposed(IMAGE, (4, 3, 3, 3), strides=[2, 2], dilations=[2, 3]),
    "2d, groups": transposed(IMAGE, (4, 3, 3, 3), strides=[2, 2], group=2, pads=[1] * 4),
    "2d, depthwise": transposed(IMAGE, (4, 1, 4, 4), strides=[2, 2], group=4, pads=[1] * 4),
    "2d, groups, strides differ": transposed(IMAGE, (4, 3, 3, 3), strides=[1, 2], group=2),
    "2d, output padding beyond": transposed(IMAGE, (4, 3, 3, 3), strides=[3, 3], output_padding=[2, 1]),
    "2d, output shape": transposed(IMAGE, (4, 3, 3, 3), strides=[3, 2], output_shape=[20, 18]),
    "2d, same upper": transposed(IMAGE, (4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    "2d, same lower": transposed(IMAGE, (4, 3, 4, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    "3d": transposed(VOLUME, (4, 2, 3, 2, 3), strides=[2, 1, 2], pads=[1, 0, 1, 1, 0, 0]),
    "3d, groups": transposed(VOLUME, (4, 2, 2, 2, 2), strides=[2, 2, 2], group=2),
}

POOLS = {
    "max 1d": pool("MaxPool", LINE, kernel_shape=[3], strides=[2], pads=[1, 0]),
    "max, as in ResNet": pool("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "max, ceil": pool("MaxPool", IMAGE, kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1),
    "max, ceil, a window behind the image": pool("MaxPool", IMAGE, kernel_shape=[1, 1], strides=[4, 5], ceil_mode=1),
    "average, ceil, one behind": pool("AveragePool", IMAGE, kernel_shape=[1, 2], strides=[4, 2], ceil_mode=1),
    "max, dilated": pool("MaxPool", IMAGE, kernel_shape=[3, 2], dilations=[2, 3], pads=[1, 0, 2, 1]),
    "max, same upper": pool("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "max, same lower": pool("MaxPool", IMAGE, kernel_shape=[2, 2], strides=[1, 1], auto_pad="SAME_LOWER"),
    "max 3d": pool("MaxPool", VOLUME, kernel_shape=[3, 2, 3], strides=[2, 1, 2], pads=[1, 0, 1, 0, 1, 1]),
    "max 3d, dilated": pool("MaxPool", VOLUME, kernel_shape=[2, 2, 3], dilations=[2, 1, 2], ceil_mode=1),
    "average 1d": pool("AveragePool", LINE, kernel_shape=[3], pads=[1, 1]),
    "average": pool("AveragePool", IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    "average, padding counts": pool(
        "AveragePool", IMAGE, kernel_shape=[3, 3], pads=[0, 1, 2, 1], count_include_pad=1, strides=[2, 2]
    ),
    "average, padding does not": pool("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[0, 1, 2, 1], strides=[2, 2]),
    "average, ceil": pool("AveragePool", IMAGE, kernel_shape=[2, 3], strides=[2, 2], pads=[1, 1, 0, 0], ceil_mode=1),
    "average, ceil, padding counts": pool(
        "AveragePool", IMAGE, kernel_shape=[2, 4], strides=[2, 2], pads=[1, 1, 0, 1], ceil_mode=1, count_include_pad=1
    ),
    "average, dilated": pool("AveragePool", IMAGE, kernel_shape=[2, 3], dilations=[2, 2], pads=[1, 1, 1, 1]),
    "average 3d": pool("AveragePool", VOLUME, kernel_shape=[2, 3, 2], strides=[1, 2, 1], pads=[1, 1, 0, 0, 1, 1]),
    "lp": pool("LpPool", IMAGE, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
    "l1": pool("LpPool", IMAGE, kernel_shape=[2, 2], p=1),
    "l3, 1d": pool("LpPool", LINE, kernel_shape=[3], p=3),
    "global max": pool("GlobalMaxPool", IMAGE),
    "global average": pool("GlobalAveragePool", IMAGE),
    "global average 3d": pool("GlobalAveragePool", VOLUME),
    "global l2": pool("GlobalLpPool", IMAGE),
    "global l3": pool("GlobalLpPool", LINE, p=3),
}

CASES = {**CONVS, **{f"transposed {n}": c for n, c in TRANSPOSED.items()}, **POOLS}


@pytest.mark.parametrize("name", CASES)
def test_fixed(name: str) -> None:
    agree(both(*CASES[name].graph()))


@pytest.mark.parametrize("name", CASES)
def test_any_batch(name: str) -> None:
    agree(both(*CASES[name].graph(batch=3)))


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if len(c.shape) == 4])
def test_in_a_cnn(name: str) -> None:
    pair = both(*CASES[name].graph(anchored=True, batch=2), channels_last=True)
    agree(pair)
    assert "TRANSPOSE" not in pair.codes


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.rest])
def test_computed_weights(name: str) -> None:
    case = CASES[name]
    agree(both(*Case(case.op, case.shape, case.rest, case.attributes, computed=(0, 1)).graph()))
    agree(both(*Case(case.op, case.shape, case.rest, case.attributes, computed=(1,)).graph()))


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 2], "dilations": [2, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 1], "storage_order": 1},
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_indices(attributes: dict[str, object], dtype: type) -> None:
    x = (noise(2, 3, 7, 8) * 9).round().astype(dtype)  # with ties: the first one counts
    agree(both(*Case("MaxPool", x.shape, (), attributes, outputs=(dtype, np.int64), x=x).graph()), 0)


def test_indices_of_a_line_and_a_volume() -> None:
    for shape, kernel in (((2, 3, 9), [2]), ((2, 3, 4, 5, 6), [2, 3, 2])):
        agree(both(*Case("MaxPool", shape, (), {"kernel_shape": kernel}, outputs=(np.float32, np.int64)).graph()), 0)


def test_unpool() -> None:
    places = np.asarray([[[[5, 7], [13, 15]], [[16, 18], [24, 31]]]], np.int64)
    case = Case("MaxUnpool", (1, 2, 2, 2), (places,), {"kernel_shape": [2, 2], "strides": [2, 2]}, computed=(0,))
    agree(both(*case.graph()), 0)


DOUBTFUL = {
    "a window beyond the input": pool("MaxPool", (1, 2, 3, 3), kernel_shape=[2, 5]),
    "a kernel beyond the input": conv((1, 4, 3, 3), (4, 4, 2, 5)),
    "same, dilated": pool("AveragePool", IMAGE, kernel_shape=[2, 2], dilations=[2, 2], auto_pad="SAME_UPPER"),
    "same, with gaps": pool("MaxPool", (1, 2, 3), kernel_shape=[1], strides=[3], auto_pad="SAME_UPPER"),
    "same, output padding": transposed(
        IMAGE, (4, 3, 2, 3), strides=[2, 2], auto_pad="SAME_UPPER", output_padding=[1, 0]
    ),
    "groups that do not fit": conv(IMAGE, (4, 3, 2, 2), group=2),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_refused(name: str) -> None:
    """What makes no sense, and where ONNX Runtime departs from ONNX."""
    with pytest.raises(UnsupportedError, match=r"unsupported: .* node"):
        tflite(*DOUBTFUL[name].graph())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_anything(data: st.DataObject) -> None:
    """Windows at random: the same numbers as ONNX Runtime, or a refusal."""
    draw = data.draw
    axes = draw(st.integers(1, 3))
    each = st.lists(st.integers(1, 3), min_size=axes, max_size=axes)
    op = draw(st.sampled_from(["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"]))
    kernel, group = draw(each), draw(st.sampled_from([1, 1, 2, 3]))
    sizes = draw(st.lists(st.integers(3, 8), min_size=axes, max_size=axes))
    attributes: dict[str, object] = {"strides": draw(each), "dilations": draw(each)}
    rest: tuple[np.ndarray, ...] = ()
    inside, out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    if op in {"Conv", "ConvTranspose"}:
        attributes["group"] = group
        weight = (group * out, inside, *kernel) if op == "Conv" else (group * inside, out, *kernel)
        rest = (noise(*weight), noise(group * out))
    else:
        attributes["kernel_shape"] = kernel
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    pads = [draw(st.integers(0, kernel[i % axes] - 1)) for i in range(2 * axes)]
    match draw(st.sampled_from(["pads", "SAME_UPPER", "SAME_LOWER", "VALID"])):
        case "pads":
            attributes["pads"] = pads
        case auto:
            attributes["auto_pad"] = auto
    case = Case(op, (1, group * inside, *sizes), rest, attributes, opset=22)
    model, feeds = case.graph(batch=draw(st.sampled_from([0, 2])))
    try:
        tflite(model, feeds)
    except UnsupportedError:
        return
    try:
        pair = both(model, feeds)
    except (Fail, InvalidArgument, RuntimeException):  # not every graph runs in ONNX Runtime either
        return
    agree(pair, 2e-5)
