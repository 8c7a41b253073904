"""The grid's arithmetic: what must hold for every tensor, and equality with ONNX Runtime bit for bit."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from exporter import grid
from exporter.errors import PlanError
from exporter.types import PerChannel, PerGroup, PerTensor, QParams, Scheme

Floats = npt.NDArray[np.float32]
EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ONNX_TYPES = {
    (8, True): TensorProto.INT8,
    (8, False): TensorProto.UINT8,
    (16, True): TensorProto.INT16,
    (16, False): TensorProto.UINT16,
    (4, True): TensorProto.INT4,
    (4, False): TensorProto.UINT4,
}

reals = st.floats(-1e6, 1e6, width=32)
schemes = st.builds(Scheme, st.sampled_from([2, 3, 4, 5, 6, 7, 8, 16]), st.booleans(), st.just(True)) | st.builds(
    Scheme, st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 16]), st.just(False), st.booleans()
)


def arrays(elements: st.SearchStrategy[float] = reals, ranks: tuple[int, int] = (1, 4)) -> st.SearchStrategy[Floats]:
    shapes = hnp.array_shapes(min_dims=ranks[0], max_dims=ranks[1], max_side=6)
    return hnp.arrays(np.float32, shapes, elements=elements)


def per_channel(array: Floats, axis: int, scheme: Scheme) -> QParams:
    others = tuple(i for i in range(array.ndim) if i != axis)
    grain = PerChannel(axis)
    wanted = Scheme(scheme.bits, scheme.symmetric, scheme.signed, grain)
    return grid.qparams_from_range(array.min(others), array.max(others), wanted)


def spread(numbers: npt.NDArray[np.float32], rank: int, axis: int) -> npt.NDArray[np.float64]:
    return numbers.astype(np.float64).reshape([-1 if i == axis else 1 for i in range(rank)])


@EXAMPLES
@given(arrays(), schemes)
def test_round_trip_is_within_half_a_step(array: Floats, scheme: Scheme) -> None:
    q = grid.qparams_from_range(array.min(), array.max(), scheme)
    integers = grid.quantize(array, q)
    assert integers.dtype == np.int32
    assert integers.shape == array.shape
    assert integers.min() >= scheme.qmin
    assert integers.max() <= scheme.qmax
    error = np.abs(grid.dequantize(integers, q).astype(np.float64) - array)
    # the float32 quotient may round half a step up or down, and so may the product
    assert (error <= float(q.scale) / 2 + np.abs(array) * 2.0**-22).all()


@EXAMPLES
@given(arrays(ranks=(2, 4)), schemes, st.data())
def test_round_trip_per_channel(array: Floats, scheme: Scheme, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, array.ndim - 1))
    q = per_channel(array, axis, scheme)
    error = np.abs(grid.dequantize(grid.quantize(array, q), q).astype(np.float64) - array)
    assert (error <= spread(q.scale, array.ndim, axis) / 2 + np.abs(array) * 2.0**-22).all()


@EXAMPLES
@given(reals, reals, schemes)
def test_zero_is_on_the_grid(one: float, other: float, scheme: Scheme) -> None:
    q = grid.qparams_from_range(min(one, other), max(one, other), scheme)
    zero = np.zeros(1, np.float32)
    assert scheme.qmin <= int(q.zero_point) <= scheme.qmax
    assert grid.quantize(zero, q)[0] == q.zero_point
    assert grid.dequantize(grid.quantize(zero, q), q)[0] == 0.0


@EXAMPLES
@given(arrays(), schemes)
def test_integers_survive_the_round_trip(array: Floats, scheme: Scheme) -> None:
    q = grid.qparams_from_range(array.min(), array.max(), scheme)
    integers = grid.quantize(array, q)
    assert np.array_equal(grid.quantize(grid.dequantize(integers, q), q), integers)


@EXAMPLES
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from([4, 8, 16]), st.booleans())
@example(value=float(np.finfo(np.float32).max), bits=8, symmetric=True)
def test_any_finite_range_has_a_scale(value: float, bits: int, symmetric: bool) -> None:
    q = grid.qparams_from_range(value, value, Scheme(bits, symmetric))
    assert np.isfinite(grid.dequantize(grid.quantize(np.array([value, -value], np.float32), q), q)).all()


@pytest.mark.parametrize("low", [np.nan, -np.inf])
def test_a_range_that_is_not_finite_is_refused(low: float) -> None:
    with pytest.raises(PlanError, match="infinite or NaN"):
        grid.qparams_from_range(low, 1.0, Scheme(8, False))


# --- ONNX Runtime ---


@functools.cache
def session(bits: int, signed: bool, axis: int | None, rank: int) -> ort.InferenceSession:
    """x, scale, zero_point -> q (widened to int32 where ONNX allows) and its DequantizeLinear."""
    kind = ONNX_TYPES[bits, signed]
    # without an axis the parameters are scalars, and ONNX does not look at the attribute
    attributes = {} if axis is None else {"axis": axis}
    dims = [] if axis is None else [None]
    nodes = [
        helper.make_node("Cast", ["zero_point"], ["zp"], to=kind),
        helper.make_node("QuantizeLinear", ["x", "scale", "zp"], ["narrow"], **attributes),
        helper.make_node("DequantizeLinear", ["narrow", "scale", "zp"], ["real"], **attributes),
        helper.make_node("Cast", ["narrow"], ["integers"], to=TensorProto.INT32),
    ]
    graph = helper.make_graph(
        nodes,
        "grid",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * rank),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, dims),
            helper.make_tensor_value_info("zero_point", TensorProto.INT32, dims),
        ],
        [
            helper.make_tensor_value_info("integers", TensorProto.INT32, [None] * rank),
            helper.make_tensor_value_info("real", TensorProto.FLOAT, [None] * rank),
        ],
    )
    return open_session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def open_session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def runtime(array: Floats, q: QParams, axis: int | None) -> Mapping[str, npt.NDArray[np.generic]]:
    opened = session(q.scheme.bits, q.scheme.signed, axis, array.ndim)
    feeds = {"x": array, "scale": q.scale, "zero_point": q.zero_point}
    return dict(zip(["integers", "real"], opened.run(None, feeds), strict=True))


def same_bits(ours: npt.NDArray[np.generic], theirs: npt.NDArray[np.generic]) -> bool:
    return ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()


widths = st.sampled_from([(8, True), (8, False), (16, True), (16, False), (4, True), (4, False)])


@EXAMPLES
@given(arrays(), widths, st.floats(2.0**-20, 2.0, width=32))
def test_per_tensor_as_onnxruntime(array: Floats, width: tuple[int, bool], clip: float) -> None:
    """Also outside the range (``clip`` narrows it): saturation is part of the arithmetic."""
    scheme = Scheme(width[0], False, width[1])
    q = grid.qparams_from_range(array.min() * clip, array.max() * clip, scheme)
    theirs, ours = runtime(array, q, None), grid.quantize(array, q)
    assert np.array_equal(ours, theirs["integers"])
    assert np.array_equal(grid.dequantize(ours, q), theirs["real"])


@EXAMPLES
@given(arrays(ranks=(2, 4)), widths, st.booleans(), st.data())
def test_per_channel_as_onnxruntime(
    array: Floats, width: tuple[int, bool], symmetric: bool, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(0, array.ndim - 1))
    q = per_channel(array, axis, Scheme(width[0], symmetric and width[1], width[1]))
    theirs, ours = runtime(array, q, axis), grid.quantize(array, q)
    assert np.array_equal(ours, theirs["integers"])
    assert np.array_equal(grid.dequantize(ours, q), theirs["real"])


def test_ties_go_to_even_as_in_onnxruntime() -> None:
    array = (np.arange(-300, 300) / 2).astype(np.float32)
    q = QParams(Scheme(8, False), np.float32(1.0), np.int32(3))  # type: ignore[arg-type]
    assert np.array_equal(grid.quantize(array, q), runtime(array, q, None)["integers"])


@functools.cache
def bias_session(rank: int) -> ort.InferenceSession:
    dims = [None] * rank
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["q", "scale"], ["real"], axis=0)],
        "bias",
        [
            helper.make_tensor_value_info("q", TensorProto.INT32, [None]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, dims),
        ],
        [helper.make_tensor_value_info("real", TensorProto.FLOAT, [None])],
    )
    return open_session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


@EXAMPLES
@given(
    hnp.arrays(np.float32, 5, elements=st.floats(2.0**-30, 2.0**10, width=32)),
    st.floats(2.0**-30, 2.0**10, width=32),
    hnp.arrays(np.int32, 5),
    st.booleans(),
)
def test_bias_as_onnxruntime(weight: Floats, activation: float, integers: npt.NDArray[np.int32], one: bool) -> None:
    q = grid.bias_qparams(activation, weight[0] if one else weight)
    assert q.scheme == Scheme(32, True, True, PerTensor() if one else PerChannel(0))
    assert not q.zero_point.any()
    assert same_bits(q.scale, np.float32(activation) * (weight[0] if one else weight))
    theirs = bias_session(q.scale.ndim).run(None, {"q": integers, "scale": q.scale})[0]
    assert same_bits(grid.dequantize(integers, q), theirs)


@EXAMPLES
@given(hnp.arrays(np.float32, 5, elements=reals), st.floats(2.0**-10, 1.0, width=32))
def test_a_bias_is_within_half_a_step(bias: Floats, scale: float) -> None:
    q = grid.bias_qparams(scale, np.float32(0.5))  # type: ignore[arg-type]
    error = np.abs(grid.quantize(bias, q) * float(q.scale) - bias.astype(np.float64))
    assert (error <= float(q.scale) / 2).all()


# --- groups ---


@EXAMPLES
@given(arrays(ranks=(2, 3)), st.integers(1, 4), st.data())
def test_a_group_is_a_run_along_its_axis(array: Floats, size: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, array.ndim - 1))
    groups = -(-array.shape[axis] // size)
    parts = [array.take(range(g * size, min((g + 1) * size, array.shape[axis])), axis) for g in range(groups)]
    low = np.stack([p.min(axis) for p in parts], axis)
    high = np.stack([p.max(axis) for p in parts], axis)
    q = grid.qparams_from_range(low, high, Scheme(4, False, False, PerGroup(axis, size)))
    whole = grid.quantize(array, q)
    for g, part in enumerate(parts):
        own = QParams(
            Scheme(4, False, False, PerGroup(axis, size)), *(n.take([g], axis) for n in (q.scale, q.zero_point))
        )
        assert np.array_equal(whole.take(range(g * size, g * size + part.shape[axis]), axis), grid.quantize(part, own))


@pytest.mark.parametrize(
    ("grain", "shape"),
    [(PerChannel(0), (3,)), (PerChannel(1), (4,)), (PerGroup(1, 2), (4, 2)), (PerGroup(0, 2), (1, 6))],
)
def test_scales_that_do_not_fit_the_tensor_are_refused(grain: PerChannel | PerGroup, shape: tuple[int, ...]) -> None:
    q = QParams(Scheme(8, True, True, grain), np.ones(shape, np.float32), np.zeros(shape, np.int32))
    with pytest.raises(PlanError, match="scales for"):
        grid.quantize(np.zeros((4, 5), np.float32), q)


# --- packing ---


@EXAMPLES
@given(st.integers(1, 8), st.booleans(), st.data())
def test_packing_round_trip(bits: int, signed: bool, data: st.DataObject) -> None:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    integers = data.draw(hnp.arrays(np.int32, st.integers(0, 40), elements=st.integers(low, high)))
    packed = grid.pack_bits(integers, bits)
    assert packed.dtype == np.uint8
    assert len(packed) == -(-len(integers) * bits // 8)
    assert np.array_equal(grid.unpack_bits(packed, bits, len(integers), signed=signed), integers)


def _code(row: np.ndarray, bits: int, place: int) -> int:
    """As the format has it: parts of 8, 4, 2 and 1 bits, the lowest first, each part's eight codes side by side."""
    whole = int.from_bytes(row.tobytes(), "little")
    code = start = 0
    for width in (width for width in (8, 4, 2, 1) if bits & width):
        code |= (whole >> (8 * start + width * place) & ((1 << width) - 1)) << start
        start += width
    return code


@EXAMPLES
@given(st.integers(1, 8), st.data())
def test_planes_round_trip(bits: int, data: st.DataObject) -> None:
    codes = data.draw(hnp.arrays(np.uint8, st.integers(0, 40), elements=st.integers(0, (1 << bits) - 1)))
    packed = grid.pack_planes(codes, bits)
    assert packed.shape == (-(-len(codes) // 8), bits)
    assert [_code(packed[i // 8], bits, i % 8) for i in range(len(codes))] == codes.tolist()
    if bits in {1, 2, 4, 8} and len(codes) % 8 == 0:
        assert np.array_equal(packed.reshape(-1), grid.pack_bits(codes, bits))


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_four_bits_are_packed_as_onnx_does(kind: int) -> None:
    signed = kind == TensorProto.INT4
    integers = np.arange(-8, 8) if signed else np.arange(16)
    theirs = helper.make_tensor("t", kind, [15], integers[:15].tolist())
    raw = theirs.raw_data or bytes(theirs.int32_data)
    assert grid.pack_bits(integers[:15], 4).tobytes() == raw


def test_low_bits_come_first() -> None:
    assert grid.pack_bits(np.array([1, 2, 3, 0, 1]), 2).tolist() == [0b00111001, 0b01]
    assert grid.pack_bits(np.array([0b101, 0b011, 0b110]), 3).tolist() == [0b10011101, 0b1]


@pytest.mark.parametrize("bits", [0, 9])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(PlanError, match="bits"):
        grid.pack_bits(np.zeros(1, np.int32), bits)
