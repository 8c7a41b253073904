"""Movement and selection: element types, batches, layouts, ranks, empty results."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from exporter.ops.op import STORED
from tests.ops.pair import check, model_of, run_onnx, run_tflite

RNG = np.random.default_rng(5)
FAR = 2**63 - 1


def numbers(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    low = 0 if dtype in {"bool", "uint8", "uint16", "uint32", "uint64"} else -40
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    return RNG.integers(low, 2 if dtype == "bool" else 40, shape).astype(kind)


def i64(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


X = numbers((3, 4, 5))
NO_ELEMENTS = np.zeros((3, 0, 5), np.float32)
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "slice": ("Slice", {"x": X, "s": i64(1, 0), "e": i64(3, FAR), "a": i64(1, 2), "t": i64(1, 2)}, {}),
    "slice backwards": ("Slice", {"x": X, "s": i64(-1, 3), "e": i64(-FAR, 0), "a": i64(2, 1), "t": i64(-1, -2)}, {}),
    "slice to the first": ("Slice", {"x": X, "s": i64(2), "e": i64(-99), "a": i64(1), "t": i64(-1)}, {}),
    "slice of nothing": ("Slice", {"x": X, "s": i64(0), "e": i64(0), "a": i64(1)}, {}),
    "slice beyond": ("Slice", {"x": X, "s": i64(99), "e": i64(999), "a": i64(1), "t": i64(1)}, {}),
    "slice of six axes": ("Slice", {"x": numbers((2, 3, 1, 2, 3, 4)), "s": i64(1, 1), "e": i64(3, 3), "a": i64(1, 5)},
                          {}),
    "slice the batch": ("Slice", {"x": X, "s": i64(1), "e": i64(FAR), "a": i64(0)}, {"batch": ["x"]}),
    "slice the batch's end": ("Slice", {"x": X, "s": i64(0), "e": i64(-1), "a": i64(0)}, {"batch": ["x"]}),
    "slice the batch backwards": ("Slice", {"x": X, "s": i64(-1), "e": i64(-FAR), "a": i64(0), "t": i64(-1)},
                                  {"batch": ["x"]}),
    "slice beside the batch": ("Slice", {"x": X, "s": i64(1), "e": i64(3), "a": i64(1)}, {"batch": ["x"]}),
    "split": ("Split", {"x": X}, {"axis": 1, "num_outputs": 2, "outputs": 2}),
    "split unevenly": ("Split", {"x": X}, {"axis": 2, "num_outputs": 3, "outputs": 3}),
    "split by sizes": ("Split", {"x": X, "s": i64(1, 0, 4)}, {"axis": -1, "outputs": 3}),
    "split beside the batch": ("Split", {"x": X, "s": i64(1, 3)}, {"axis": 1, "outputs": 2, "batch": ["x"]}),
    "split into one": ("Split", {"x": X}, {"axis": 1, "num_outputs": 1}),
    "concat": ("Concat", {"x": X, "y": numbers((3, 2, 5)), "z": X}, {"axis": -2}),
    "concat with a constant": ("Concat", {"x": X, "k": numbers((3, 1, 5))}, {"axis": 1, "constants": ["k"]}),
    "concat with nothing": ("Concat", {"x": X, "y": NO_ELEMENTS}, {"axis": 1}),
    "concat of nothing": ("Concat", {"x": NO_ELEMENTS, "y": NO_ELEMENTS}, {"axis": 1}),
    "concat of one": ("Concat", {"x": X}, {"axis": 1}),
    "concat beside the batch": ("Concat", {"x": X, "y": numbers((3, 2, 5))}, {"axis": 1, "batch": ["x", "y"]}),
    "concat batches": ("Concat", {"x": X, "y": X}, {"axis": 0, "batch": ["x", "y"]}),
    "concat to the batch": ("Concat", {"x": X, "k": X[:1]}, {"axis": 0, "batch": ["x"], "constants": ["k"]}),
    "concat of rank 6": ("Concat", {"x": numbers((1, 2, 1, 2, 3, 2)), "y": numbers((1, 2, 1, 2, 1, 2))}, {"axis": 4}),
    "tile": ("Tile", {"x": X, "r": i64(1, 2, 3)}, {}),
    "tile nothing": ("Tile", {"x": X, "r": i64(1, 0, 1)}, {}),
    "tile with the batch": ("Tile", {"x": X, "r": i64(1, 2, 1)}, {"batch": ["x"]}),
    "tile the batch": ("Tile", {"x": X, "r": i64(2, 1, 1)}, {"batch": ["x"]}),
    "tile a scalar": ("Tile", {"x": np.float32(3).reshape(()), "r": np.zeros(0, np.int64)}, {}),
    "expand": ("Expand", {"x": numbers((3, 1, 5)), "s": i64(2, 1, 4, 5)}, {}),
    "expand a scalar": ("Expand", {"x": np.float32(3).reshape(()), "s": i64(2, 3)}, {}),
    "expand to itself": ("Expand", {"x": X, "s": i64(1, 1, 1)}, {}),
    "expand to nothing": ("Expand", {"x": numbers((3, 1, 5)), "s": i64(3, 0, 5)}, {}),
    "reshape": ("Reshape", {"x": X, "s": i64(0, -1, 2)}, {}),
    "reshape to a scalar": ("Reshape", {"x": X[:1, :1, :1], "s": np.zeros(0, np.int64)}, {}),
    "reshape of nothing": ("Reshape", {"x": NO_ELEMENTS, "s": i64(0, 3)}, {"allowzero": 1}),
    "reshape with the batch": ("Reshape", {"x": X, "s": i64(-1, 2, 10)}, {"batch": ["x"]}),
    "reshape the batch": ("Reshape", {"x": X, "s": i64(-1, 5)}, {"batch": ["x"]}),
    "flatten at 0": ("Flatten", {"x": X}, {"axis": 0}),
    "flatten at the end": ("Flatten", {"x": X}, {"axis": 3}),
    "flatten from behind": ("Flatten", {"x": X}, {"axis": -1, "batch": ["x"]}),
    "squeeze": ("Squeeze", {"x": numbers((3, 1, 4, 1)), "a": i64(1, -1)}, {}),
    "squeeze all": ("Squeeze", {"x": numbers((1, 1, 1))}, {}),
    "squeeze beside the batch": ("Squeeze", {"x": numbers((3, 1, 4, 1)), "a": i64(1)}, {"batch": ["x"]}),
    "unsqueeze": ("Unsqueeze", {"x": X, "a": i64(0, 2, -1)}, {}),
    "unsqueeze a scalar": ("Unsqueeze", {"x": np.float32(3).reshape(()), "a": i64(0, 1)}, {}),
    "unsqueeze beside the batch": ("Unsqueeze", {"x": X, "a": i64(1, -1)}, {"batch": ["x"]}),
    "transpose of rank 6": ("Transpose", {"x": numbers((2, 3, 1, 2, 3, 2))}, {"perm": [5, 0, 3, 1, 4, 2]}),
    "transpose the batch": ("Transpose", {"x": X}, {"perm": [2, 0, 1], "batch": ["x"]}),
    "reversed sequences": ("ReverseSequence", {"x": X, "n": i64(1, 4, 3)}, {"batch_axis": 0, "time_axis": 1}),
    "reversed, time first": ("ReverseSequence", {"x": X, "n": i64(1, 0, 3, 2)}, {"batch_axis": 1, "time_axis": 0}),
    "reversed batch": ("ReverseSequence", {"x": X, "n": i64(1, 4, 3)}, {"batch_axis": 0, "time_axis": 1,
                                                                                 "batch": "xn"}),
    "top": ("TopK", {"x": X, "k": i64(2)}, {"axis": 1, "outputs": 2}),
    "top of ties": ("TopK", {"x": numbers((4, 60), "bool").astype(np.float32), "k": i64(9)}, {"outputs": 2}),
    "bottom": ("TopK", {"x": X, "k": i64(3)}, {"largest": 0, "outputs": 2, "batch": ["x"]}),
    "bottom of integers": ("TopK", {"x": np.asarray([5, -(2**31), 2**31 - 1, 0], np.int32), "k": i64(4)},
                           {"largest": 0, "outputs": 2}),
    "triangle": ("Trilu", {"x": X}, {"upper": 0, "batch": ["x"]}),
    "triangle above": ("Trilu", {"x": X, "k": np.asarray(2)}, {"upper": 1}),
    "dropout": ("Dropout", {"x": X}, {"outputs": 2}),
    "choice": ("Where", {"c": X > 0, "x": X, "y": numbers((4, 1))}, {"batch": ["c", "x"]}),
    "choice of rank 6": ("Where", {"c": numbers((2, 1, 2, 1, 2, 1), "bool"), "x": numbers((2, 3, 2, 2, 2, 2)),
                                   "y": np.float32(1).reshape(())}, {}),
}  # fmt: skip
PARAMETERS = "setarkn"


def how_of(case: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    op, inputs, how = CASES[case]
    batch = how.get("batch", ())
    constants = [n for n in inputs if n in PARAMETERS and n not in batch and n not in {"c"}]
    return op, inputs, {"constants": constants, **how}


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_cases(case: str, permuted: bool) -> None:
    op, inputs, how = how_of(case)
    check(op, inputs, permuted=permuted, **how)


ALL_TYPES = [
    "slice backwards", "split unevenly", "concat with a constant", "tile", "expand", "reshape", "squeeze", "unsqueeze",
    "transpose the batch", "reversed sequences", "triangle", "choice", "dropout", "flatten at 0",
]  # fmt: skip


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("case", ALL_TYPES)
def test_every_type(case: str, dtype: str) -> None:
    op, inputs, how = how_of(case)
    data = "xyzk" if op == "Concat" else "xyz"
    moved = {n: numbers(a.shape, dtype) if n in data else a for n, a in inputs.items()}
    if op == "ReverseSequence" and dtype == "bfloat16":
        pytest.skip("onnx does not allow it before opset 26")
    if op == "Dropout" and not np.issubdtype(moved["x"].dtype, np.floating):
        pytest.skip("of floats only")
    check(op, moved, **how)


@pytest.mark.parametrize("dtype", [t for t in STORED if t not in {"bool", "complex64", "float64"}])
@pytest.mark.parametrize("largest", [0, 1])
def test_top_of_every_type(dtype: str, largest: int) -> None:
    x = numbers((3, 12), dtype)
    if dtype == "uint64":
        x[:, ::3] += np.uint64(2**63)
    check("TopK", {"x": x, "k": i64(5)}, constants=["k"], largest=largest, outputs=2)


@pytest.mark.parametrize("dtype", [t for t in STORED if t not in {"bfloat16", "complex64"}])
def test_one_hot_of_every_type(dtype: str) -> None:
    """Expected: what ONNX Runtime gives in float, in the type asked for."""
    for indices in (np.asarray([[0, -1, 3], [7, -5, -4]]), np.asarray([1.0, -2.0], np.float32)):
        values = numbers((2,), dtype)
        axis = 1 if indices.ndim == 2 else -1
        inputs = {"i": indices, "d": np.asarray(4), "v": values.astype(np.float32)}
        wanted = run_onnx(model_of("OneHot", inputs, constants=["d"], axis=axis), {"i": indices, "v": inputs["v"]})[0]
        for constants in (["d"], ["d", "v"]):
            model = model_of("OneHot", {**inputs, "v": values}, constants=constants, axis=axis, batch=["i"])
            found = run_tflite(emit_tflite(from_proto(model)), {"i": indices, "v": values})["y0"]
            np.testing.assert_array_equal(found, wanted.astype(values.dtype))


def test_computed_diagonal() -> None:
    for k in (-9, -1, 0, 3):
        check("Trilu", {"x": X, "k": np.asarray(k)}, upper=0)


@pytest.mark.parametrize("case", [
    ("Split", {"x": X}, {"axis": 0, "num_outputs": 2, "outputs": 2, "batch": ["x"]}, "splits the batch"),
    ("Squeeze", {"x": X[:1], "a": i64(0)}, {"constants": ["a"], "batch": ["x"]}, "batch"),
    ("TopK", {"x": X, "k": i64(2)}, {"outputs": 2}, "'k': computed at run time"),
    ("TopK", {"x": X.astype(np.float64), "k": i64(2)}, {"constants": ["k"], "outputs": 2}, "float64"),
    ("Dropout", {"x": X, "r": np.float32(0.5), "t": np.asarray(True)}, {"constants": ["r", "t"]}, "eval mode"),
])  # fmt: skip
def test_refusals(case: tuple[str, dict[str, Any], dict[str, Any], str]) -> None:
    op, inputs, how, words = case
    with pytest.raises(UnsupportedError, match=words):
        emit_tflite(from_proto(model_of(op, inputs, **how)))
