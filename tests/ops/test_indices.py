"""Gathers and scatters: element types, negative run-time indices, batches, layouts, repeated indices."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from exporter.ops.op import STORED
from tests.ops.pair import check, model_of

RNG = np.random.default_rng(3)


def numbers(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    low = 0 if dtype in {"bool", "uint8", "uint16", "uint32", "uint64"} else -40
    high = 2 if dtype == "bool" else 40
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    return RNG.integers(low, high, shape).astype(kind)


def indices(limit: int, shape: tuple[int, ...], dtype: str = "int64") -> np.ndarray:
    """From both ends."""
    return RNG.integers(-limit, limit, shape).astype(dtype)


X = numbers((3, 4, 5))
GATHERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "rows": ("Gather", {"x": X, "i": indices(3, (6,))}, {"axis": 0}),
    "scalar": ("Gather", {"x": X, "i": indices(4, ())}, {"axis": 1}),
    "matrix of indices": ("Gather", {"x": X, "i": indices(5, (2, 3), "int32")}, {"axis": -1}),
    "constant indices": ("Gather", {"x": X, "i": indices(4, (2, 2))}, {"axis": 1, "constants": ["i"]}),
    "constant data": ("Gather", {"x": X, "i": indices(3, (2,))}, {"axis": 0, "constants": ["x"]}),
    "rank 1": ("Gather", {"x": X[0, 0], "i": indices(5, ())}, {"axis": 0}),
    "rank 6": ("Gather", {"x": numbers((2, 1, 3, 2, 2, 2)), "i": indices(3, (2,))}, {"axis": 2}),
    "batch": ("Gather", {"x": X, "i": indices(4, (2,))}, {"axis": 1, "batch": ["x"]}),
    "batch of indices": ("Gather", {"x": X, "i": indices(3, (7, 2))}, {"axis": 0, "batch": ["i"]}),
    "from the batch": ("Gather", {"x": X, "i": indices(3, (2,))}, {"axis": 0, "batch": ["x"]}),
    "constants from the batch": ("Gather", {"x": X, "i": np.array([-1, 0])},
                                 {"axis": 0, "batch": ["x"], "constants": ["i"]}),
    "elements": ("GatherElements", {"x": X, "i": indices(5, (3, 4, 2))}, {"axis": 2}),
    "elements of part": ("GatherElements", {"x": X, "i": indices(4, (2, 6, 3))}, {"axis": 1}),
    "elements, rank 1": ("GatherElements", {"x": X[0, 0], "i": indices(5, (9,))}, {"axis": 0}),
    "elements, batch": ("GatherElements", {"x": X, "i": indices(4, (3, 2, 4))}, {"axis": 1, "batch": ["x", "i"]}),
    "elements along the batch": ("GatherElements", {"x": X, "i": indices(3, (6, 2, 4))}, {"axis": 0, "batch": ["x"]}),
    "slices": ("GatherND", {"x": X, "i": indices(3, (2, 2))}, {}),
    "points": ("GatherND", {"x": X, "i": indices(3, (2, 4, 3), "int64")}, {}),
    "one element": ("GatherND", {"x": X, "i": indices(3, (3,))}, {}),
    "batch dims": ("GatherND", {"x": X, "i": indices(4, (3, 2, 1))}, {"batch_dims": 1}),
    "two batch dims": ("GatherND", {"x": numbers((2, 3, 4, 5)), "i": indices(4, (2, 3, 1))}, {"batch_dims": 2}),
    "batch dims, pairs": ("GatherND", {"x": X, "i": indices(4, (3, 6, 2))}, {"batch_dims": 1}),
    "batch dims, batch": ("GatherND", {"x": X, "i": indices(4, (3, 6, 2))}, {"batch_dims": 1, "batch": ["x", "i"]}),
}  # fmt: skip


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("case", GATHERS)
def test_gathers(case: str, permuted: bool) -> None:
    op, inputs, how = GATHERS[case]
    check(op, inputs, permuted=permuted, **how)


SCATTERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "elements": ("ScatterElements", {"x": X, "i": indices(4, (3, 2, 5)), "u": numbers((3, 2, 5))}, {"axis": 1}),
    "elements of part": ("ScatterElements", {"x": X, "i": indices(3, (2, 2, 3)), "u": numbers((2, 2, 3))}, {"axis": 0}),
    "constant elements": ("ScatterElements", {"x": X, "i": indices(5, (3, 1, 9)), "u": numbers((3, 1, 9))},
                          {"axis": 2, "constants": ["i"]}),
    "elements, batch": ("ScatterElements", {"x": X, "i": indices(4, (3, 2, 5)), "u": numbers((3, 2, 5))},
                        {"axis": 1, "batch": ["x", "i", "u"]}),
    "slices": ("ScatterND", {"x": X, "i": indices(3, (4, 1)), "u": numbers((4, 4, 5))}, {}),
    "points": ("ScatterND", {"x": X, "i": indices(3, (2, 3, 3)), "u": numbers((2, 3))}, {}),
    "constant points": ("ScatterND", {"x": X, "i": indices(3, (7, 2)), "u": numbers((7, 5))}, {"constants": ["i"]}),
    "one slice": ("ScatterND", {"x": X, "i": indices(3, (2,)), "u": numbers((5,))}, {}),
    "all constant but the data": ("ScatterND", {"x": X, "i": indices(3, (7, 1)), "u": numbers((7, 4, 5))},
                                  {"constants": ["i", "u"]}),
}  # fmt: skip


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("case", SCATTERS)
def test_scatters(case: str, reduction: str, permuted: bool) -> None:
    op, inputs, how = SCATTERS[case]
    check(op, inputs, permuted=permuted, reduction=reduction, **how)


@pytest.mark.parametrize("reduction", ["max", "min"])
def test_scatter_keeps_infinities(reduction: str) -> None:
    x = np.array([-np.inf, np.inf, -np.inf, 3.0, np.finfo(np.float32).min, -0.5], np.float32)
    u = np.array([-np.inf, np.inf, np.inf, -np.inf, -np.inf, -0.75], np.float32)
    check("ScatterElements", {"x": x, "i": np.arange(6), "u": u}, reduction=reduction)


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("batch", [[], ["x", "u", "w"]])
@pytest.mark.parametrize("axis", [1, -2])
def test_tensor_scatter(mode: str, batch: list[str], axis: int) -> None:
    cache, update = numbers((3, 2, 6, 4)), numbers((3, 2, 2, 4))
    if axis == 1:
        cache, update = cache.transpose(0, 2, 1, 3), update.transpose(0, 2, 1, 3)
    starts = np.array([0, 4, 2] if mode == "linear" else [5, 1, 4])
    check("TensorScatter", {"x": cache, "u": update, "w": starts}, axis=axis, mode=mode, batch=batch, permuted=True)
    check("TensorScatter", {"x": cache, "u": update}, axis=axis, mode=mode, batch=batch[:2])


MOVES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Gather": ("Gather", {"i": indices(3, (2,))}, {"axis": 1}),
    "GatherElements": ("GatherElements", {"i": indices(3, (2, 3))}, {"axis": 1}),
    "GatherND": ("GatherND", {"i": indices(2, (4, 2))}, {}),
    "ScatterND": ("ScatterND", {"i": np.array([[1], [0]])}, {}),
    "ScatterElements": ("ScatterElements", {"i": indices(3, (2, 2))}, {"axis": 1}),
}


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("case", MOVES)
def test_every_type_is_moved(case: str, dtype: str) -> None:
    op, inputs, how = MOVES[case]
    if dtype == "complex64" and op != "Gather":
        pytest.skip("complex numbers only move where onnx allows them")
    inputs = {"x": numbers((2, 3), dtype), **inputs}
    if op.startswith("Scatter"):
        shape = (2, 2) if op == "ScatterElements" else (2, 3)
        inputs["u"] = numbers(shape, dtype)
    check(op, inputs, **how)


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8", "uint8", "int16", "uint16", "float16"])
def test_scatter_sums_of_other_types(dtype: str) -> None:
    if dtype == "int64":
        x, u = numbers((4,), dtype) + 2**40, numbers((3,), dtype) - 2**41
    else:
        x, u = numbers((4,), dtype), numbers((3,), dtype)
    check("ScatterElements", {"x": x, "i": np.array([1, 1, -1]), "u": u}, reduction="add")


def test_what_cannot_be_reduced_is_refused() -> None:
    inputs = {"x": numbers((4,), "int64"), "i": np.array([1, 1]), "u": numbers((2,), "int64")}
    with pytest.raises(UnsupportedError, match="'mul' of int64; can be float32"):
        emit_tflite(from_proto(model_of("ScatterElements", inputs, reduction="mul")))
