"""What only moves elements, in int8: the same integers in both files, and no step back to float in between."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantize import apply, make_plan
from tests.ops.pair import run_tflite
from tests.quantize.graphs import model_of, run, stats_of

RNG = np.random.default_rng(4)
ANCHOR = "a = Conv<pads=[1,1,1,1]>(x, w) "
HEAD = "main (float[2,4,6,6] x) => (float[A,B,C,D] y) { "
I64 = np.int64
ARRAYS: dict[str, np.ndarray] = {
    "w": RNG.standard_normal((4, 4, 3, 3)).astype(np.float32),
    "picks": np.asarray([3, 0, -1, -1], I64),
    "places": RNG.integers(-4, 4, (2, 3, 6, 6)),
    "points": np.asarray([[0, 1], [1, -1], [0, 3]], I64),
    "rows": np.asarray([[1, 0], [0, -2]], I64),
    "first": np.asarray([-1], I64), "last": np.asarray([-99], I64), "axis": np.asarray([3], I64),
    "back": np.asarray([-2], I64), "sizes": np.asarray([1, 2, 1], I64), "twice": np.asarray([1, 1, 2, 1], I64),
    "wide": np.asarray([2, 4, 6, 6], I64), "flat": np.asarray([2, -1, 4, 3], I64), "zero": np.asarray([0], I64),
    "lengths": np.asarray([3, 4], I64), "two": np.asarray([2], I64),
}  # fmt: skip
CASES = {
    "gather": ANCHOR + "y = Gather<axis=1>(a, picks)",
    "gather elements": ANCHOR + "y = GatherElements<axis=1>(a, places)",
    "gather points": ANCHOR + "g = GatherND(a, points) y = Unsqueeze(g, zero)",
    "scatter elements": ANCHOR + "u = Gather<axis=1>(a, picks3) y = ScatterElements<axis=1>(a, places, u)",
    "scatter rows": ANCHOR + "u = GatherND(a, rows) y = ScatterND(a, points2, u)",
    "slice backwards": ANCHOR + "y = Slice(a, first, last, axis, back)",
    "split": ANCHOR + "p, q, r = Split<axis=1>(a, sizes) y = Concat<axis=1>(r, q, p)",
    "tile": ANCHOR + "y = Tile(a, twice)",
    "expand": ANCHOR + "m = ReduceMean<keepdims=1>(a, axis) y = Expand(m, wide)",
    "reshape": ANCHOR + "y = Reshape(a, flat)",
    "squeeze and unsqueeze": ANCHOR + "m = ReduceMean<keepdims=1>(a, axis) s = Squeeze(m, axis) y = Unsqueeze(s, two)",
    "transpose": ANCHOR + "y = Transpose<perm=[2,0,3,1]>(a)",
    "triangle": ANCHOR + "y = Trilu<upper=0>(a)",
    "reversed": ANCHOR + "y = ReverseSequence<batch_axis=0, time_axis=1>(a, lengths)",
}
ARRAYS |= {"picks3": np.asarray([1, 0, 2], I64), "points2": np.asarray([[1, 2], [0, 0]], I64)}


@pytest.mark.parametrize("case", CASES)
def test_integers_pass_through(case: str) -> None:
    body = CASES[case]
    words = set(body.replace(",", " ").replace("(", " ").replace(")", " ").split())
    model = prepare(model_of(HEAD + body + " }", **{k: a for k, a in ARRAYS.items() if k in words}), INT8_PASSES)
    feeds = {"x": RNG.standard_normal((2, 4, 6, 6)).astype(np.float32)}
    plan = make_plan(model, stats_of(model, feeds))
    quantized = apply(model, plan)
    expected = run(emit_onnx(quantized), feeds)["y"]
    data = emit_tflite(quantized)
    np.testing.assert_array_equal(run_tflite(data, feeds)["y"], expected)
    codes = [o.code for o in read_tflite(data).operators]
    assert codes.count("QUANTIZE") == codes.count("DEQUANTIZE") == 1, (codes, plan.float_nodes)
