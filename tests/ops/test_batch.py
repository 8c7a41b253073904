"""What is constant for one sample and repeated for the batch: tokens, states, masks."""

from __future__ import annotations

import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.text import agree, graph

LENGTH = "n = Shape<start = 0, end = 1>(x) "
CASES = {
    "a token before the others": (
        "(float[N,3,4] x, float[1,1,4] c) => (float[N,4,4] y)"
        f"{{ {LENGTH} tail = Constant<value_ints = [1, 4]>() s = Concat<axis = 0>(n, tail) t = Expand(c, s)"
        " y = Concat<axis = 1>(t, x) }"
    ),
    "a constant as output": (
        "(float[N,3] x, float[1,4] c) => (float[N,4] y)"
        f"{{ {LENGTH} tail = Constant<value_ints = [4]>() s = Concat<axis = 0>(n, tail) y = Expand(c, s) }}"
    ),
    "heads repeated": (
        "(float[N,2,3,4] x) => (float[N,6,3,4] y)"
        f"{{ {LENGTH} tail = Constant<value_ints = [2, 3, 3, 4]>() s = Concat<axis = 0>(n, tail)"
        " a = Constant<value_ints = [2]>() u = Unsqueeze(x, a) t = Expand(u, s)"
        " shape = Constant<value_ints = [0, 6, 3, 4]>() y = Reshape(t, shape) }"
    ),
    "a token on integers": (
        "(float[N,3,4] x, float[1,1,4] c) => (float[N,4,4] y)"
        f"{{ {LENGTH} tail = Constant<value_ints = [1, 4]>() s = Concat<axis = 0>(n, tail) t = Expand(c, s)"
        " k = Constant<value_float = 0.03125>() z = Constant<value = uint8 {128}>() a = QuantizeLinear(t, k, z)"
        " b = DequantizeLinear(a, k, z) d = QuantizeLinear(x, k, z) e = DequantizeLinear(d, k, z)"
        " f = Concat<axis = 1>(b, e) g = QuantizeLinear(f, k, z) y = DequantizeLinear(g, k, z) }"
    ),
    "zeros of the batch": (
        "(float[N,3] x) => (float[N,5] y)"
        f"{{ {LENGTH} tail = Constant<value_ints = [2]>() s = Concat<axis = 0>(n, tail) t = ConstantOfShape(s)"
        " y = Concat<axis = 1>(x, t) }"
    ),
    "reshaped": (
        "(float[N,3] x, float[1,4] c) => (float[N,2,2] y)"
        f"{{ {LENGTH} tail = Constant<value_ints = [4]>() s = Concat<axis = 0>(n, tail) t = Expand(c, s)"
        " shape = Constant<value_ints = [0, 2, 2]>() y = Reshape(t, shape) }"
    ),
    "resized to a size of its own": (
        "(float[N,2,3,4] x) => (float[N,2,6,8] y) { n = Shape<start = 0, end = 2>(x)"
        ' size = Constant<value_ints = [6, 8]>() s = Concat<axis = 0>(n, size) y = Resize<mode = "linear">(x, , , s) }'
    ),
    "a grid for each matrix": (
        "(float[N,2,3] x) => (float[N,4,5,2] y)"
        f"{{ {LENGTH} tail = Constant<value_ints = [3, 4, 5]>() s = Concat<axis = 0>(n, tail) y = AffineGrid(x, s) }}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fixed", ["", "c"], ids=["computed", "constant"])
def test_follows_the_batch(name: str, fixed: str) -> None:
    if fixed and " c)" not in CASES[name]:
        pytest.skip("no constant in it")
    agree(CASES[name], constants=fixed)


@pytest.mark.parametrize("text", [
    '(float[N,2,3,4] x) => (float[1,2,6,8] y) { s = Constant<value_ints = [1, 2, 6, 8]>() y = Resize(x, , , s) }',
    "(float[N,2,3] x) => (float[1,4,5,2] y) { s = Constant<value_ints = [1, 3, 4, 5]>() y = AffineGrid(x, s) }",
])  # fmt: skip
def test_a_size_for_one_batch_alone_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedError, match=r"not th\w+ of .* batch"):
        emit_tflite(from_proto(graph(text)))
