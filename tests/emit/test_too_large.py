"""A few numbers in a file may ask for a terabyte: refused with a reason before anything of that size is made."""

from __future__ import annotations

import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.text import graph

NUMBERS = "one = Constant<value_floats = [1.0]>() few = Constant<value_ints = [1]>() zero = Constant<value_int = 0>() "
HUGE = "huge = Constant<value_ints = [100000, 100000]>() long = Constant<value_ints = [1000000000000]>() "
CASES = {
    "filled": "t = ConstantOfShape(huge)",
    "filled with integers": "i = ConstantOfShape<value = int64[1] {1}>(long) t = Cast<to = 1>(i)",
    "expanded": "t = Expand(one, huge)",
    "expanded input": "t = Expand(x, huge)",
    "tiled": "t = Tile(one, long)",
    "counted": "n = Squeeze(long) by = Squeeze(few) i = Range(zero, n, by) t = Cast<to = 1>(i)",
    "an outer product": (
        "n = Constant<value_int = 65000>() by = Squeeze(few) i = Range(zero, n, by) f = Cast<to = 1>(i)"
        " column = Unsqueeze(f, few) t = Mul(f, column)"
    ),
    "padded": "places = Concat<axis = 0>(few, long) t = Pad(one, places)",
    "one hot": "n = Squeeze(long) values = Constant<value_floats = [0.0, 1.0]>() t = OneHot(few, n, values)",
    "a diagonal": "big = Expand(x, huge) t = EyeLike(big)",
}


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str) -> None:
    text = f"(float[1] x) => (float y) {{ {NUMBERS} {HUGE} {CASES[case]} y = ReduceSum<keepdims = 0>(t) }}"
    with pytest.raises(UnsupportedError, match=r"has \d+ elements; TFLite counts to 2147483647"):
        emit_tflite(from_proto(graph(text)))
