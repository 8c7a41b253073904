"""Functions of one number: relative precision far and near, the ends of the range, element types, layouts, batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.pair import Array, check, model_of, run_tflite

RNG = np.random.default_rng(23)
INF, NAN = math.inf, math.nan


def each(function: Callable[[float], float]) -> Callable[[Array], Array]:
    return np.vectorize(function, otypes=[np.float64])


def log_one_plus_exp(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@dataclass(frozen=True)
class Function:
    """true: in float64. over: decades of |x|. special: x -> y at the ends of the range."""

    true: Callable[[Array], Array]
    over: tuple[float, float] = (-6, 1.5)
    signs: tuple[int, ...] = (1, -1)
    special: dict[float, float] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    offset: float = 0.0
    absolute: float = 0.0


FUNCTIONS: dict[str, Function] = {
    "Sin": Function(np.sin, absolute=5e-7),
    "Cos": Function(np.cos, absolute=5e-7),
    "Tan": Function(np.tan, over=(-6, 0.15)),
    "Asin": Function(np.arcsin, over=(-6, 0), special={1: math.pi / 2, -1: -math.pi / 2, 0: 0, 1.5: NAN}),
    "Acos": Function(np.arccos, over=(-6, 0), special={1: 0, -1: math.pi, 2: NAN}),
    "Atan": Function(np.arctan, over=(-6, 8), special={INF: math.pi / 2, -INF: -math.pi / 2, 0: 0}),
    "Sinh": Function(np.sinh, over=(-6, 1.9), special={0: 0, 200: INF, -200: -INF}),
    "Cosh": Function(np.cosh, over=(-6, 1.9), special={0: 1, 200: INF, -200: INF}),
    "Tanh": Function(np.tanh, special={0: 0, INF: 1, -INF: -1}),
    "Asinh": Function(np.arcsinh, over=(-6, 37), special={0: 0, INF: INF, -INF: -INF}),
    "Acosh": Function(np.arccosh, over=(-6, 37), signs=(1,), special={1: 0, INF: INF, 0.5: NAN}, offset=1.0),
    "Atanh": Function(np.arctanh, over=(-6, -0.0001), special={0: 0, 1: INF, -1: -INF, 1.5: NAN}),
    "Exp": Function(np.exp, over=(-6, 1.9), special={0: 1, -INF: 0, INF: INF}),
    "Log": Function(np.log, over=(-30, 37), signs=(1,), special={0: -INF, INF: INF}, absolute=1e-6),
    "Sqrt": Function(np.sqrt, over=(-30, 37), signs=(1,), special={0: 0, INF: INF}),
    "Reciprocal": Function(np.reciprocal, over=(-30, 30), special={INF: 0, 0: INF}),
    "Erf": Function(each(math.erf), over=(-6, 2), special={0: 0, INF: 1, -INF: -1}),
    "Sigmoid": Function(lambda x: 1 / (1 + np.exp(-x)), special={0: 0.5, 1e4: 1, -1e4: 0}),
    "Softplus": Function(log_one_plus_exp, over=(-6, 1.9), special={0: math.log(2), 1e4: 1e4, -1e4: 0}),
    "Softsign": Function(lambda x: x / (1 + np.abs(x)), over=(-6, 30), special={0: 0}),
    "Mish": Function(lambda x: x * np.tanh(log_one_plus_exp(x)), over=(-6, 1.9), special={0: 0, 1e4: 1e4, -1e4: 0}),
    "Swish": Function(lambda x: x / (1 + np.exp(-1.5 * x)), special={1e4: 1e4, -1e4: 0}, attributes={"alpha": 1.5}),
    "Elu": Function(lambda x: np.where(x > 0, x, 2 * np.expm1(x)), special={-INF: -2}, attributes={"alpha": 2.0}),
    "Selu": Function(lambda x: 1.2 * np.where(x > 0, x, 1.5 * np.expm1(x)), attributes={"alpha": 1.5, "gamma": 1.2}),
    "Celu": Function(lambda x: np.maximum(x, 0) + np.minimum(0, 3 * np.expm1(x / 3)), attributes={"alpha": 3.0}),
    "Gelu": Function(lambda x: 0.5 * x * (1 + each(math.erf)(x / math.sqrt(2))), absolute=1e-6),
}  # fmt: skip


def file_of(op: str, inputs: dict[str, Array], **how: Any) -> bytes:
    return emit_tflite(from_proto(model_of(op, inputs, **how)))


@pytest.mark.parametrize("op", FUNCTIONS)
def test_relative_precision(op: str) -> None:
    function = FUNCTIONS[op]
    sizes = 10.0 ** RNG.uniform(*function.over, 4000)
    x = np.concatenate([sign * sizes for sign in function.signs]).astype(np.float32) + np.float32(function.offset)
    x = np.concatenate([x, np.asarray(list(function.special), np.float32)])
    with np.errstate(all="ignore"):
        true = function.true(x.astype(np.float64)).astype(np.float32).astype(np.float64)
    true[len(true) - len(function.special) :] = list(function.special.values())
    data = file_of(op, {"x": x}, **function.attributes)
    actual = run_tflite(data, {"x": x})["y0"]
    smallest = float(np.finfo(np.float32).tiny)  # kernels flush what is less
    np.testing.assert_allclose(actual, true, 1e-5, max(function.absolute, 10 * smallest))


PIECEWISE: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky relu": ("LeakyRelu", {}),
    "steep leaky relu": ("LeakyRelu", {"alpha": 1.7}),
    "turned leaky relu": ("LeakyRelu", {"alpha": -0.5}),
    "elu": ("Elu", {}),
    "selu": ("Selu", {}),
    "celu": ("Celu", {}),
    "hard sigmoid": ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    "falling hard sigmoid": ("HardSigmoid", {"alpha": -0.3, "beta": 0.4}),
    "hard swish": ("HardSwish", {}),
    "thresholded relu": ("ThresholdedRelu", {"alpha": 0.5}),
    "negative threshold": ("ThresholdedRelu", {"alpha": -0.5}),
    "hard shrink": ("Shrink", {"lambd": 0.7}),
    "soft shrink": ("Shrink", {"lambd": 0.7, "bias": 0.7}),
    "odd shrink": ("Shrink", {"lambd": 0.7, "bias": 0.2}),
    "gelu": ("Gelu", {}),
    "gelu by tanh": ("Gelu", {"approximate": "tanh"}),
    "floor": ("Floor", {}),
    "ceil": ("Ceil", {}),
    "round": ("Round", {}),
    "sign": ("Sign", {}),
    "abs": ("Abs", {}),
    "neg": ("Neg", {}),
    "is nan": ("IsNaN", {}),
    "is inf": ("IsInf", {}),
    "is positive inf": ("IsInf", {"detect_negative": 0}),
    "is negative inf": ("IsInf", {"detect_positive": 0}),
    "is neither inf": ("IsInf", {"detect_positive": 0, "detect_negative": 0}),
}  # fmt: skip


@pytest.mark.parametrize("case", PIECEWISE)
def test_pieces(case: str) -> None:
    op, attributes = PIECEWISE[case]
    x = np.concatenate([RNG.normal(0, 2, 500), np.arange(-4, 4, 0.25), [0.5, 0.7, -0.7, 1e30, -1e30, 0.0, -0.0]])
    if op.startswith("Is"):
        x[:6] = [NAN, INF, -INF, NAN, INF, -INF]
    check(op, {"x": x.astype(np.float32)}, **attributes)
    check(op, {"x": x[:100].astype(np.float16)}, **attributes)
    check(op, {"x": x[:120].astype(np.float32).reshape(2, 3, 4, 5)}, permuted=True, batch=["x"], **attributes)


ROUNDINGS = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, 8388607.5, 1e10, -8388609.0]


def test_ties_go_to_the_even_number() -> None:
    check("Round", {"x": np.asarray(ROUNDINGS, np.float32)})


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("op", ["Neg", "Abs", "Sign", "Relu"])
def test_integers(op: str, dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.concatenate([RNG.integers(info.min, info.max, 50, dtype), np.array([0, 1, info.max, info.min + 1], dtype)])
    unsigned = info.min == 0
    if unsigned and op in {"Neg", "Relu"}:
        return  # not in ONNX
    check(op, {"x": x})


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
                                   "float32", "float16"])  # fmt: skip
@pytest.mark.parametrize("bounds", ["low", "high", "both", "crossed", "computed"])
def test_clip(bounds: str, dtype: str) -> None:
    real = dtype.startswith("float")
    info = np.finfo(dtype) if real else np.iinfo(dtype)
    x = (RNG.normal(0, 3, (2, 3, 4)) if real else RNG.integers(info.min, info.max, (2, 3, 4), dtype)).astype(dtype)
    low, high = (
        np.asarray(int(info.min) // 3 if not real else -1, dtype),
        np.asarray(int(info.max) // 2 if not real else 2, dtype),
    )
    if bounds == "crossed":
        low, high = high, low
    inputs = {"x": x, "low": None if bounds == "high" else low, "high": None if bounds == "low" else high}
    constants = [] if bounds == "computed" else ["low", "high"]
    check("Clip", inputs, constants=constants, permuted=True)


@pytest.mark.parametrize("name", ["Relu", "Relu6", "Relu1", "unit", "none"])
def test_clips_with_a_name(name: str) -> None:
    low, high = {"Relu": (0, None), "Relu6": (0, 6), "Relu1": (-1, 1), "unit": (0, 1), "none": (None, None)}[name]
    x = RNG.normal(0, 4, (2, 3)).astype(np.float32)
    bounds = {n: None if v is None else np.float32(v).reshape(()) for n, v in (("low", low), ("high", high))}
    data = check("Clip", {"x": x, **bounds}, constants=["low", "high"])
    from exporter.emit.tflite import read_tflite

    assert len(read_tflite(data).operators) <= 1


SLOPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "channels": ((2, 3, 4, 5), (3, 1, 1)),
    "one": ((2, 3, 4), (1,)),
    "all": ((2, 3, 4), (2, 3, 4)),
    "rank 1": ((6,), (6,)),
    "rank 6": ((1, 2, 3, 1, 2, 2), (3, 1, 1, 2)),
}


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("case", SLOPES)
def test_prelu(case: str, computed: bool) -> None:
    shape, slopes = SLOPES[case]
    x, slope = RNG.normal(size=shape).astype(np.float32), RNG.normal(size=slopes).astype(np.float32)
    check("PRelu", {"x": x, "s": slope}, constants=[] if computed else ["s"], permuted=True)
    whole = (x * 9).astype(np.int32), (slope * 3).astype(np.int32)
    check("PRelu", dict(zip("xs", whole, strict=True)), constants=[] if computed else ["s"])


SOFT = ["Softmax", "LogSoftmax", "Hardmax"]


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 3, 4, 5), (2, 1, 2, 3, 2), (1, 2, 1, 2, 3, 2)])
@pytest.mark.parametrize("op", SOFT)
def test_along_each_axis(op: str, shape: tuple[int, ...], permuted: bool) -> None:
    x = np.round(RNG.normal(0, 2, shape), 0 if op == "Hardmax" else 3).astype(np.float32)
    for axis in range(-len(shape), len(shape)):
        check(op, {"x": x}, axis=axis, permuted=permuted, batch=["x"] if axis not in {0, -len(shape)} else [])
    check(op, {"x": x.astype(np.float16)})


def test_large_scores() -> None:
    x = np.float32([[1e4, 1e4 + 1, -3.4e38], [-1e4, -1e4, 0], [88, 89, 3e38]])
    for op in SOFT:
        check(op, {"x": x})


def test_gates() -> None:
    a, b = RNG.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    true = a / (1 + np.exp(-1.5 * a)) * b
    model = model_of("SwiGLU", {"a": a, "b": b}, alpha=1.5, batch=["a", "b"], permuted=True)
    model.opset_import[0].version = 28
    turned = {"a_turned": a.transpose(0, 3, 2, 1), "b_turned": b.transpose(0, 3, 2, 1)}
    np.testing.assert_allclose(run_tflite(emit_tflite(from_proto(model)), turned)["y0"], true, 1e-5, 1e-6)


REFUSED: dict[str, tuple[str, dict[str, Array], dict[str, Any], str]] = {
    "float64": ("Exp", {"x": np.ones(3)}, {}, "float64"),
    "negative celu": ("Celu", {"x": np.ones(3, np.float32)}, {"alpha": -1.0}, "alpha"),
    "drawing": ("Bernoulli", {"x": np.ones(3, np.float32)}, {}, "random"),
    "big determinant": ("Det", {"x": np.ones((5, 5), np.float32)}, {}, "5 x 5"),
    "window of any size": ("HannWindow", {"x": np.asarray(5)}, {}, "size"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    op, inputs, attributes, word = REFUSED[case]
    with pytest.raises(UnsupportedError, match=word):
        emit_tflite(from_proto(model_of(op, inputs, **attributes)))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_determinants(size: int) -> None:
    check("Det", {"x": RNG.normal(size=(3, 2, size, size)).astype(np.float32)}, permuted=True)
    check("Det", {"x": RNG.normal(size=(size, size)).astype(np.float32)})


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows(op: str, periodic: int) -> None:
    x = RNG.normal(size=(2, 9)).astype(np.float32)
    nodes = [
        onnx.helper.make_node(op, ["n"], ["w"], periodic=periodic),
        onnx.helper.make_node("Mul", ["x", "w"], ["y0"]),
    ]
    model = model_of("Abs", {"x": x})
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(9), "n"))
    from tests.ops.pair import same

    same(model, {"x": x})
