"""Cast, CastLike and BitCast between all element types."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.pair import Array, model_of, run_tflite

WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
REAL = ("float16", "bfloat16", "float32", "float64")
TYPES = ("bool", *WHOLE, *REAL)
RNG = np.random.default_rng(31)


def kind_of(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def enum_of(name: str) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(kind_of(name)))


def values(name: str, wanted: str) -> Array:
    """Of a type, and where that is float and the other is not, within its range: beyond it ONNX defines nothing."""
    if name == "bool":
        return np.array([0, 1, 1, 0], bool)
    if name in REAL:
        info = np.iinfo(wanted) if wanted in WHOLE else None
        top = 6e4 if info is None else min(float(info.max), 6e4 if name == "float16" else 1e18)
        low = -top if info is None or info.min < 0 else 0
        x = np.concatenate([RNG.uniform(low, top, 50), RNG.uniform(max(low, -9), 9, 50), [0, 0.5, 1.5, 2.5]])
        x = np.concatenate([x, [np.inf, -np.inf, np.nan]]) if wanted in REAL else x
        return x.astype(kind_of(name)) if info is None else np.minimum(x.astype(kind_of(name)), _below(top, name))
    info = np.iinfo(name)
    x = RNG.integers(info.min, info.max, 60, name, endpoint=True)
    return np.concatenate([x, np.array([0, 1, info.min, info.max], name)])


def _below(top: float, name: str) -> Array:
    """The largest number of the type below ``top``."""
    wide = np.float32(top)
    while float(wide.astype(kind_of(name))) > top or float(wide) >= top:
        wide = np.nextafter(wide, np.float32(0)) if name in {"float32", "float64"} else np.float32(wide * 0.99)
    return wide.astype(kind_of(name))


def _same(actual: Array, expected: Array) -> None:
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual.astype(np.float64), expected.astype(np.float64))
    if expected.dtype.kind in "iu":
        np.testing.assert_array_equal(actual, expected)


UNSURE = {("uint64", "float64"), ("float64", "uint64")}  # refused


@pytest.mark.parametrize("given", TYPES)
@pytest.mark.parametrize("wanted", TYPES)
def test_cast(given: str, wanted: str) -> None:
    x = values(given, wanted)
    model = model_of("Cast", {"x": x}, to=enum_of(wanted))
    if (given, wanted) in UNSURE:
        with pytest.raises(UnsupportedError, match=given):
            emit_tflite(from_proto(model))
        return
    with np.errstate(all="ignore"):
        # from 64 bits and from float64, ONNX Runtime too passes through float32
        expected = x.astype(np.float32).astype(kind_of(wanted)) if wanted == "bfloat16" else x.astype(kind_of(wanted))
    actual = run_tflite(emit_tflite(from_proto(model)), {"x": x})["y0"]
    if given == "uint64" and wanted in REAL:  # rounded twice: at most the neighbour
        np.testing.assert_allclose(actual.astype(np.float64), expected.astype(np.float64), 2.0**-23, 0)
        assert actual.dtype == expected.dtype
    else:
        _same(actual, expected)


def test_cast_like() -> None:
    x, like = np.float32([1.5, -2.5]), np.zeros(3, np.int16)
    for constants in ([], ["like"]):
        model = model_of("CastLike", {"x": x, "like": like}, constants=constants)
        np.testing.assert_array_equal(run_tflite(emit_tflite(from_proto(model)), {"x": x, "like": like})["y0"], [1, -2])


@pytest.mark.parametrize("given", TYPES)
@pytest.mark.parametrize("wanted", TYPES)
def test_bit_cast(given: str, wanted: str) -> None:
    if kind_of(given).itemsize != kind_of(wanted).itemsize:
        return
    x = values(given, given if given in WHOLE else "int8")
    model = model_of("BitCast", {"x": x}, to=enum_of(wanted))
    model.opset_import[0].version = 26
    if wanted == "bool" != given:
        with pytest.raises(UnsupportedError, match="bool"):
            emit_tflite(from_proto(model))
        return
    actual = run_tflite(emit_tflite(from_proto(model)), {"x": x})["y0"]
    np.testing.assert_array_equal(actual.view(np.uint8), x.view(np.uint8))
    assert actual.dtype == kind_of(wanted)


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "INT4", "UINT4", "STRING"])
def test_what_no_tensor_can_hold_is_refused(kind: str) -> None:
    model = model_of("Cast", {"x": np.ones(3, np.float32)}, to=getattr(onnx.TensorProto, kind))
    with pytest.raises(UnsupportedError, match="can be float32"):
        emit_tflite(from_proto(model))
