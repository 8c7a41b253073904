"""Quantization operators on their own, at the edges of a graph, and those that multiply integers themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.pair import Array, check, model_of, run_onnx, run_tflite

RNG = np.random.default_rng(41)
KINDS = ("int8", "uint8", "int16", "uint16")
F32 = np.float32


def codes_of(data: bytes) -> list[str]:
    return [o.code for o in read_tflite(data).operators]


def integers(kind: str, shape: tuple[int, ...]) -> Array:
    info = np.iinfo(kind)
    return RNG.integers(info.min, info.max, shape, kind, endpoint=True)


def ties(scale: Array, *shape: int) -> Array:
    """Real numbers, half of them in the middle between two steps."""
    steps = RNG.integers(-300, 300, shape) + np.where(RNG.random(shape) < 0.5, 0.5, RNG.random(shape))
    return (steps * scale).astype(F32)


SCALES: dict[str, tuple[tuple[int, ...], dict[str, int]]] = {
    "tensor": ((), {}),
    "tensor, rank 1": ((1,), {}),
    "axis 1": ((6,), {}),
    "last axis": ((4,), {"axis": -1}),
    "blocks": ((2, 3, 4), {"axis": 1, "block_size": 2}),
    "short blocks": ((2, 2, 4), {"axis": 1, "block_size": 4}),
}


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("case", SCALES)
@pytest.mark.parametrize("kind", KINDS)
def test_alone(kind: str, case: str, computed: bool) -> None:
    shape, fields = SCALES[case]
    scale = RNG.uniform(0.01, 0.3, shape).astype(F32)
    zero = RNG.integers(1, 100, shape).astype(kind)
    x = ties(np.full((), 0.1), 2, 6, 4)
    rest = [] if computed else ["s", "z"]
    if case == "short blocks" and computed:
        for op, first in (("QuantizeLinear", x), ("DequantizeLinear", integers(kind, x.shape))):
            with pytest.raises(UnsupportedError, match="block_size"):
                emit_tflite(from_proto(model_of(op, {"x": first, "s": scale, "z": zero}, **fields)))
        return
    check("QuantizeLinear", {"x": x, "s": scale, "z": zero}, constants=rest, permuted=True, **fields)
    check("DequantizeLinear", {"x": integers(kind, x.shape), "s": scale, "z": zero}, constants=rest, **fields)
    if not computed and "blocks" not in case:  # a scale by blocks has the size of one batch
        check("QuantizeLinear", {"x": x, "s": scale, "z": zero}, constants=rest, batch=["x"], **fields)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
def test_without_zero_point(kind: str) -> None:
    check("DequantizeLinear", {"x": integers(kind, (3, 4)), "s": F32(0.1)}, constants=["s"])
    data_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    check("QuantizeLinear", {"x": ties(np.full((), 0.1), 50), "s": F32(0.1)}, constants=["s"], output_dtype=data_type)


def test_int32_is_subtracted_before_it_is_rounded() -> None:
    x = np.array([2**31 - 1, -(2**31) + 5, 16777217, 3], np.int32)
    check("DequantizeLinear", {"x": x, "s": F32(0.25), "z": np.int32(0)}, constants=["s", "z"])
    check("DequantizeLinear", {"x": x[2:], "s": F32(0.25)}, constants=["s"])


def test_half_precision_scales() -> None:
    check("DequantizeLinear", {"x": integers("int8", (3, 4)), "s": np.float16(0.1)}, constants=["s"])
    x = ties(np.full((), 0.1), 60).astype(np.float16)
    check("QuantizeLinear", {"x": x, "s": np.float16(0.125), "z": np.uint8(3)}, constants=["s", "z"])


DYNAMIC: dict[str, Array] = {
    "both signs": RNG.normal(0, 3, (4, 50)).astype(F32),
    "positive": np.abs(RNG.normal(0, 3, (4, 50))).astype(F32),
    "negative": -np.abs(RNG.normal(0, 3, (4, 50))).astype(F32),
    "zeros": np.zeros((2, 3), F32),
    "tiny": np.full((2, 3), 1e-30, F32),
}


@pytest.mark.parametrize("case", DYNAMIC)
def test_dynamic(case: str) -> None:
    check("DynamicQuantizeLinear", {"x": DYNAMIC[case]}, outputs=3)
    check("DynamicQuantizeLinear", {"x": DYNAMIC[case]}, outputs=3, batch=["x"], permuted=True)


def graph(text: str, **arrays: Any) -> onnx.ModelProto:
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\n' + text)
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return model


def steps_apart(model: onnx.ModelProto, feeds: dict[str, Array]) -> tuple[int, list[str]]:
    data = emit_tflite(from_proto(model))
    (expected,), found = run_onnx(model, feeds), run_tflite(data, feeds)
    actual = found[model.graph.output[0].name]
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    return int(np.abs(actual.astype(np.int64) - expected.astype(np.int64)).max()), codes_of(data)


WEIGHTS = {
    "w": integers("int8", (6, 3, 3, 3)),
    "ws": RNG.uniform(0.001, 0.01, 6).astype(F32),
    "wz": np.zeros(6, np.int8),
}
BIAS = {"b": RNG.integers(-900, 900, 6).astype(np.int32)}


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("weights", ["int8", "uint8", "crooked"])
def test_qlinear_conv(kind: str, weights: str) -> None:
    zero = 130 if kind == "uint8" else 2
    arrays: dict[str, Any] = {**WEIGHTS, **BIAS}
    if weights != "int8":
        point = 128 if weights == "uint8" else 90  # the scale: no sum falls in the middle between two steps
        arrays |= {"w": integers("uint8", (6, 3, 3, 3)), "ws": F32(0.0101734), "wz": np.uint8(point)}
    arrays |= {"xs": F32(0.02), "xz": np.asarray(zero, kind), "ys": F32(0.5), "yz": np.asarray(zero, kind)}
    text = (
        f"g ({kind}[N,3,8,8] x) => ({kind}[N,6,C,D] y) "
        "{ y = QLinearConv<pads=[1,1,1,1], strides=[2,2]>(x, xs, xz, w, ws, wz, ys, yz, b) }"
    )
    apart, codes = steps_apart(graph(text, **arrays), {"x": integers(kind, (3, 3, 8, 8))})
    assert apart <= (0 if weights != "crooked" else 1)
    assert "CONV_2D" in codes
    assert ("DEQUANTIZE" in codes) == (weights == "crooked"), "on integers where the weights allow it"


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("constant", [False, True])
def test_qlinear_matmul(kind: str, constant: bool) -> None:
    arrays = {
        "as": F32(0.02), "az": np.asarray(5, kind), "bs": F32(0.03),
        "bz": np.asarray(128 if kind == "uint8" else 0, kind),
        "ys": F32(0.5), "yz": np.asarray(9, kind),
    }  # fmt: skip
    a, b = integers(kind, (4, 7, 32)), integers(kind, (32, 5))
    wires = f"({kind}[N,7,32] a)" if constant else f"({kind}[N,7,32] a, {kind}[32,5] b)"
    text = f"g {wires} => ({kind}[N,7,5] y) {{ y = QLinearMatMul(a, as, az, b, bs, bz, ys, yz) }}"
    model = graph(text, **arrays, **({"b": b} if constant else {}))
    apart, codes = steps_apart(model, {"a": a, "b": b} if not constant else {"a": a})
    assert apart <= (0 if constant else 1)
    assert "DIV" not in codes


@pytest.mark.parametrize("depth", [8, 300, 1500])
@pytest.mark.parametrize("kinds", [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
def test_integer_products_are_exact(kinds: tuple[str, str], depth: int) -> None:
    a, b = integers(kinds[0], (2, 3, depth)), integers(kinds[1], (depth, 4))
    b[:, 0] = np.iinfo(kinds[1]).max
    a[0, 0] = np.iinfo(kinds[0]).max
    zeros = {"az": np.asarray(3, kinds[0]), "bz": RNG.integers(0, 9, 4).astype(kinds[1])}
    check("MatMulInteger", {"a": a, "b": b, **zeros}, constants=["az", "b", "bz"])
    check("MatMulInteger", {"a": a, "b": b, **zeros})
    check("MatMulInteger", {"a": a, "b": b}, batch=["a"])


@pytest.mark.parametrize("channels", [3, 64])
def test_integer_convolutions_are_exact(channels: int) -> None:
    x, w = integers("uint8", (2, channels, 6, 7)), integers("uint8", (4, channels, 3, 3))
    inputs = {"x": x, "w": w, "xz": np.uint8(7), "wz": np.uint8(120)}
    check("ConvInteger", inputs, constants=["w", "xz", "wz"], pads=[1, 1, 1, 1], strides=[2, 1])
    check("ConvInteger", {"x": x, "w": w}, constants=["w"])


def test_what_is_refused() -> None:
    inputs = {"x": np.ones((2, 512, 3, 3), np.uint8), "w": np.full((2, 256, 3, 3), 255, np.uint8)}
    grouped = model_of("ConvInteger", inputs, constants=["w"], group=2)
    with pytest.raises(UnsupportedError, match="products in each sum"):
        emit_tflite(from_proto(grouped))
    four_bits = model_of("QuantizeLinear", {"x": np.ones(3, F32), "s": F32(1)}, output_dtype=onnx.TensorProto.INT4)
    with pytest.raises(UnsupportedError, match="int4 at run time"):
        emit_tflite(from_proto(four_bits))


EDGES = {
    "uint8 in and out": ("uint8", "uint8"),
    "int8 in and out": ("int8", "int8"),
    "float in, uint8 out": ("float", "uint8"),
    "uint8 in, float out": ("uint8", "float"),
}


@pytest.mark.parametrize("case", EDGES)
def test_integers_at_the_edges(case: str) -> None:
    given, wanted = EDGES[case]
    inner = "uint8" if "uint8" in {given, wanted} else "int8"
    arrays = {
        "s": F32(0.02), "z": np.asarray(120 if inner == "uint8" else -8, inner), "t": F32(0.3),
        "w": WEIGHTS["w"], "ws": WEIGHTS["ws"], "wz": WEIGHTS["wz"],
    }  # fmt: skip
    head = f"g ({given}[N,3,8,8] x) => ({wanted}[N,6,C,D] y) {{ "
    way_in = (
        "r = DequantizeLinear(x, s, z) "
        if given != "float"
        else "q = QuantizeLinear(x, s, z) r = DequantizeLinear(q, s, z) "
    )
    body = "k = DequantizeLinear<axis=0>(w, ws, wz) c = Conv(r, k) "
    way_out = (
        "y = QuantizeLinear(c, t, z) }"
        if wanted != "float"
        else "p = QuantizeLinear(c, t, z) y = DequantizeLinear(p, t, z) }"
    )
    model = graph(head + way_in + body + way_out, **arrays)
    x = RNG.normal(0, 1, (2, 3, 8, 8)).astype(F32) if given == "float" else integers(given, (2, 3, 8, 8))
    data = emit_tflite(from_proto(model))
    (expected,), actual = run_onnx(model, {"x": x}), run_tflite(data, {"x": x})["y"]
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual.astype(F32), expected.astype(F32), 0, 1e-6)
    assert [c for c in codes_of(data) if c not in {"QUANTIZE", "DEQUANTIZE", "TRANSPOSE"}] == ["CONV_2D"]


def test_a_float_weight_that_the_graph_quantizes_becomes_integers() -> None:
    arrays = {
        "w": RNG.normal(0, 0.1, (6, 3, 3, 3)).astype(F32), "ws": np.full(6, 0.003, F32), "wz": np.zeros(6, np.int8),
        "s": F32(0.05), "z": np.int8(0),
    }  # fmt: skip
    text = """g (float[N,3,8,8] x) => (float[N,6,C,D] y) {
        q = QuantizeLinear(x, s, z) r = DequantizeLinear(q, s, z)
        i = QuantizeLinear<axis=0>(w, ws, wz) k = DequantizeLinear<axis=0>(i, ws, wz)
        c = Conv(r, k) p = QuantizeLinear(c, s, z) y = DequantizeLinear(p, s, z) }"""
    model = graph(text, **arrays)
    data = emit_tflite(from_proto(model))
    x = RNG.normal(0, 2, (2, 3, 8, 8)).astype(F32)
    np.testing.assert_allclose(run_tflite(data, {"x": x})["y"], run_onnx(model, {"x": x})[0], 0, 1e-6)
    assert codes_of(data).count("QUANTIZE") == codes_of(data).count("DEQUANTIZE") == 1
