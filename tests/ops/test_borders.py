"""Padding, cropping and blocks: both runtimes, fixed and symbolic batch, and no TRANSPOSE inside a CNN."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.compare import Case, agree, both, tflite


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


IMAGE = (1, 4, 5, 6)
SIDES = ints(0, 0, 2, 1, 0, 0, 1, 3)
CROPS = ints(0, 0, -2, 1, 0, 0, 1, -3)

CASES = {
    "zero": Case("Pad", IMAGE, (SIDES,)),
    "channels": Case("Pad", IMAGE, (ints(0, 1, 0, 0, 0, 2, 0, 0),)),
    "a number": Case("Pad", IMAGE, (SIDES, np.float32(-3.5))),
    "a computed number": Case("Pad", IMAGE, (SIDES, np.float32(1.25)), computed=(1,)),
    "axes": Case("Pad", IMAGE, (ints(1, 2, 3, 4), None, ints(-1, 2))),
    "negative": Case("Pad", IMAGE, (CROPS,)),
    "only negative": Case("Pad", IMAGE, (ints(0, 0, -1, 0, 0, 0, 0, -2),)),
    "nothing": Case("Pad", IMAGE, (ints(0, 0, 0, 0, 0, 0, 0, 0),)),
    "reflect": Case("Pad", IMAGE, (SIDES,), {"mode": "reflect"}),
    "reflect and crop": Case("Pad", IMAGE, (CROPS,), {"mode": "reflect"}),
    "edge": Case("Pad", IMAGE, (ints(0, 0, 9, 1, 0, 0, 1, 8),), {"mode": "edge"}),
    "edge and crop": Case("Pad", IMAGE, (CROPS,), {"mode": "edge"}),
    "wrap": Case("Pad", IMAGE, (SIDES,), {"mode": "wrap"}),
    "a vector": Case("Pad", (5,), (ints(1, 2),)),
    "a sequence": Case("Pad", (1, 3, 5), (ints(0, 0, 2, 0, 0, 1),), {"mode": "edge"}),
    "a volume": Case("Pad", (1, 2, 3, 4, 5), (ints(0, 0, 1, 0, 2, 0, 0, 0, 1, 1),)),
    "six axes": Case("Pad", (1, 2, 3, 2, 2, 2), (ints(0, 1, 1, 0, 2, 0, 0, 0, 0, 1, 1, 1),)),
    "crop": Case("CenterCropPad", IMAGE, (ints(2, 3),), {"axes": [2, 3]}),
    "crop and pad": Case("CenterCropPad", IMAGE, (ints(8, 3),), {"axes": [-2, -1]}),
    "depth to space": Case("DepthToSpace", (1, 8, 2, 3), (), {"blocksize": 2}),
    "depth to space, by column": Case("DepthToSpace", (1, 8, 2, 3), (), {"blocksize": 2, "mode": "CRD"}),
    "space to depth": Case("SpaceToDepth", (1, 2, 4, 6), (), {"blocksize": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_fixed(name: str) -> None:
    agree(both(*CASES[name].graph()), 0)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if len(c.shape) > 1])
def test_any_batch(name: str) -> None:
    agree(both(*CASES[name].graph(batch=3)), 0)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if len(c.shape) == 4])
def test_in_a_cnn(name: str) -> None:
    pair = both(*CASES[name].graph(anchored=True), channels_last=True)
    agree(pair)
    assert ("TRANSPOSE" in pair.codes) == (CASES[name].attributes.get("mode") == "CRD"), "that order is one"


@pytest.mark.parametrize(
    "dtype",
    [
        np.int8,
        np.uint8,
        np.int32,
        np.int64,
        np.bool_,
        np.float16,
        np.float64,
        np.int16,
        np.uint16,
        np.uint32,
        np.uint64,
    ],
)
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_types(dtype: type, mode: str) -> None:
    x = (np.arange(60).reshape(1, 3, 4, 5) % 7).astype(dtype)
    rest = (SIDES, np.asarray(1, dtype)) if mode == "constant" else (SIDES,)
    case = Case("Pad", x.shape, rest, {"mode": mode}, outputs=(dtype,), x=x)
    model, feeds = case.graph()
    steps, where = np.pad, [(0, 0), (0, 0), (2, 1), (1, 3)]
    expected = steps(x, where, mode, constant_values=1) if mode == "constant" else steps(x, where, mode)
    np.testing.assert_array_equal(tflite(model, feeds)[0], expected)
