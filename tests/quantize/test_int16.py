"""int16 activations: their grids, the borders beside int8 neighbours, and both files of one plan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from exporter import grid, packing
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.errors import PlanError, RecipeError
from exporter.loading import from_proto
from exporter.parity.numbers import compare_numbers
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantization import quantize
from exporter.quantize import apply, make_plan
from exporter.quantize.widths import ACTIVATIONS
from exporter.recipe import Override, Quantize, with_arguments
from exporter.training import refuse
from exporter.types import Plan
from tests.quantize.graphs import model_of, run, stats_of

NET = """net (float[N,3,8,8] x) => (float[N,5] y) {
  a = Conv<pads=[1,1,1,1]>(x, w, b)   r = Relu(a)
  c = Conv<pads=[1,1,1,1], group=8>(r, d, e)   s = Sigmoid(c)   m = Mul(c, s)
  t = Add(m, r)   u = MaxPool<kernel_shape=[2,2], strides=[2,2]>(t)
  v = Concat<axis=1>(u, u)   h = Conv(v, k)   g = GlobalAveragePool(h)   f = Flatten(g)   y = Gemm(f, n, o)
}"""
OWN = np.random.default_rng(0)  # of this module alone: what was imported before it changes no number


def noise(*shape: int) -> np.ndarray:
    return OWN.standard_normal(shape).astype(np.float32)


ARRAYS = {
    "w": noise(8, 3, 3, 3), "b": noise(8), "d": noise(8, 1, 3, 3), "e": noise(8), "k": noise(4, 16, 1, 1),
    "n": noise(4, 5), "o": noise(5),
}  # fmt: skip
FEEDS = {"x": noise(16, 3, 8, 8)}
ALL = Quantize(activations="int16")
# of an int8 net one node in int16, and of an int16 net one node in int8: wishes and second grids
BORDERS = {
    "one conv in int16": (Quantize(override=[Override("node_2", activations="int16")]), {"r_int16", "c_int8"}),
    "the input twice": (Quantize(override=[Override("w", activations="int16")]), {"r_int8"}),
    "only the sum": (Quantize(override=[Override("Add", activations="int16")]), {"m_int16", "r_int16", "t_int8"}),
    "passed on": (Quantize(override=[Override("Concat", activations="int16")]), {"u_int16", "v_int8"}),
    "a fixed scale": (Quantize(override=[Override("Sigmoid", activations="int16")]), {"c_int16", "s_int8"}),
    "int8 inside int16": (
        Quantize(activations="int16", override=[Override("node_2", activations="int8")]),
        {"r_int8", "c_int16"},
    ),
    "narrow weights": (Quantize("int4", override=[Override("Gemm", activations="int16")]), {"f_int16"}),
}


def made(wishes: Quantize) -> tuple[Plan, object, bytes]:
    model = prepare(model_of(NET, **ARRAYS), INT8_PASSES)
    found = quantize(model, wishes, lambda: [FEEDS], count=1)
    plan = found.rounded.plan
    quantized = apply(found.model, found.rounded)
    return plan, emit_onnx(quantized, plan), emit_tflite(quantized, plan)


def tflite(data: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return Interpreter(model_content=data, num_threads=1).get_signature_runner()(**feeds)["y"]


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(-32768, 32767), st.floats(0, 1))
def test_the_grid_is_symmetric_and_rounds_to_half_a_step(a: float, b: float, step: int, share: float) -> None:
    low, high = min(a, b), max(a, b)
    q = grid.qparams_from_range(low, high, ACTIVATIONS[16])
    assert int(q.zero_point) == 0
    assert float(q.scale) == pytest.approx(max(abs(low), abs(high)) / 32767, rel=1e-6, abs=1e-30)
    assert grid.quantize(grid.dequantize(np.array([step]), q), q)[0] == step
    value = np.array([low + share * (high - low)], np.float32)
    assert np.abs(grid.dequantize(grid.quantize(value, q), q) - value)[0] <= 0.51 * float(q.scale)


def test_a_whole_net_is_the_same_in_both_files() -> None:
    plan, ours, theirs = made(ALL)
    assert not plan.float_nodes
    assert not plan.borders
    assert {t.qparams.scheme.bits for t in plan.tensors.values() if t.role == "activation"} == {16}
    numbers = compare_numbers(plan, ours, theirs)
    assert not numbers.different
    assert not numbers.missing
    real = run(model_of(NET, **ARRAYS), FEEDS)["y"]
    a, b = run(ours, FEEDS)["y"], tflite(theirs, FEEDS)
    assert np.abs(a - b).max() <= 8 * plan.tensors["y"].qparams.scale
    eight = made(Quantize())
    error = np.square(a - real).mean(), np.square(run(eight[1], FEEDS)["y"] - real).mean()
    assert error[0] < error[1], "weights alone lose less than weights and activations"
    kinds = Counter(t.dtype for t in read_tflite(theirs).tensors)
    assert kinds["int64"] == 4, "biases beside int16 are int64"
    again = made(ALL)
    assert again[2] == theirs
    assert packing.onnx_bytes(again[1]) == packing.onnx_bytes(ours)


@pytest.mark.parametrize("name", BORDERS)
def test_a_border_stands_in_the_plan_and_in_both_files(name: str) -> None:
    wishes, expected = BORDERS[name]
    plan, ours, theirs = made(wishes)
    assert {border.tensor.name for border in plan.borders} == expected
    assert Plan.from_json(plan.to_json()) == plan
    onnx.checker.check_model(onnx.load_from_string(packing.onnx_bytes(ours)), full_check=True)
    numbers = compare_numbers(plan, ours, theirs)
    assert not numbers.different
    assert not numbers.missing
    file = read_tflite(theirs)
    kinds = [tuple(file.tensors[i].dtype for i in (o.inputs[0], o.outputs[0])) for o in file.operators
             if o.code == "QUANTIZE"]  # fmt: skip
    assert Counter(kinds)["int8", "int16"] == sum(n.endswith("int16") for n in expected)
    assert Counter(kinds)["int16", "int8"] == sum(n.endswith("int8") for n in expected)
    assert Counter(o.code for o in file.operators)["DEQUANTIZE"] == 1, "integers from end to end"
    real, a, b = run(model_of(NET, **ARRAYS), FEEDS)["y"], run(ours, FEEDS)["y"], tflite(theirs, FEEDS)
    step = float(plan.tensors["y"].qparams.scale)
    assert np.abs(a - b).max() <= max(2 * step, 2e-3 * np.abs(real).max())


def test_a_bias_behind_a_border_has_the_scale_of_what_is_read() -> None:
    plan, _, _ = made(BORDERS["one conv in int16"][0])
    (border,) = (b for b in plan.borders if b.source == "r")
    expected = border.tensor.qparams.scale * plan.tensors["d"].qparams.scale
    assert np.array_equal(plan.tensors["e"].qparams.scale, expected)
    assert plan.read("r", "node_2") is border.tensor
    assert plan.read("r", "node_5") is plan.tensors["r"]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("f = Flatten(x) y = Gemm(f, m, c)", "int8"),
        ("f = Flatten(x) y = MatMul(f, m)", "int8"),
        ("f = Reshape(x, s) y = MatMul(f, m8)", "int8"),
        ("f = Flatten(x) y = Gemm(f, m, c)", "int4"),
        ("f = Flatten(x) y = MatMul(f, m)", "int3"),
        ("f = Reshape(x, s) y = MatMul(f, m8)", "int4"),
    ],
)
def test_linear_layers_keep_sixteen_bits_in_onnx_runtime(body: str, weights: str) -> None:
    """It would read them in 8 bits: see exporter/emit/_int16.py."""
    arrays = {"m": noise(192, 5), "m8": noise(24, 40), "c": noise(5), "s": np.array([-1, 8, 24])}
    out = "float[N,8,40] y" if "m8" in body else "float[N,5] y"
    words = set(body.replace(",", " ").replace(")", " ").split())
    model = model_of(
        f"net (float[N,3,8,8] x) => ({out}) {{ {body} }}", **{k: a for k, a in arrays.items() if k in words}
    )
    plan = make_plan(model, stats_of(model, FEEDS), Quantize(weights, "int16", rounder="nearest"))
    quantized = apply(model, plan)
    exact = run(quantized, FEEDS, optimize=False)["y"]
    step = plan.tensors["y"].qparams.scale
    assert np.abs(run(emit_onnx(quantized, plan), FEEDS)["y"] - exact).max() <= 1.01 * step
    assert np.abs(tflite(emit_tflite(quantized, plan), FEEDS) - exact).max() <= 2.01 * step


def test_inputs_and_outputs_can_be_int16() -> None:
    model = prepare(model_of(NET, **ARRAYS), INT8_PASSES)
    plan = make_plan(model, stats_of(model, FEEDS), ALL)
    quantized = apply(model, plan, io="int16")
    integers = {"x": grid.quantize(FEEDS["x"], plan.tensors["x"].qparams).astype(np.int16)}
    a, b = run(emit_onnx(quantized, plan), integers)["y"], tflite(emit_tflite(quantized, plan), integers)
    assert a.dtype == b.dtype == np.int16
    assert np.abs(a.astype(int) - b).max() <= 8
    with pytest.raises(PlanError, match="io = 'int8', but 'x' is int16"):
        apply(model, plan, io="int8")


def test_a_constant_cannot_have_two_widths() -> None:
    text = """net (float[N,4,4,4] x) => (float[N,4,4,4] y) {
      a = Conv(x, w)   p = Mul(a, k)   q = Conv(p, w2)   y = Add(q, k)
    }"""
    model = model_of(text, w=noise(4, 4, 1, 1), w2=noise(4, 4, 1, 1), k=noise(4, 1, 1))
    wishes = Quantize(override=[Override("Mul", activations="int16")])
    with pytest.raises(PlanError, match="constant 'k' is read by nodes with int8 and with int16 activations"):
        make_plan(model, stats_of(model, {"x": noise(2, 4, 4, 4)}), wishes)


def test_training_on_int16_activations_is_refused() -> None:
    recipe = with_arguments(None, {"source": "net.onnx", "activations": "int16"})
    with pytest.raises(RecipeError, match="leave training nothing to win"):
        refuse(recipe, trained=True, calibrated=True)


def test_a_file_that_another_quantizer_made_becomes_integers(tmp_path: Path) -> None:
    """onnxruntime's own, symmetric int16: the pairs around each operator say all that TFLite needs."""
    batches = iter([FEEDS])

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    onnx.save(ir.to_proto(model_of(NET, **ARRAYS)), tmp_path / "net.onnx")
    quantize_static(
        tmp_path / "net.onnx", tmp_path / "int16.onnx", Reader(), per_channel=True, activation_type=QuantType.QInt16,
        extra_options={"ActivationSymmetric": True},
    )  # fmt: skip
    model = from_proto(onnx.load(tmp_path / "int16.onnx"))
    data = emit_tflite(model)
    codes = Counter(o.code for o in read_tflite(data).operators)
    assert codes["CONV_2D"] == 2
    assert codes["QUANTIZE"] <= 3, "the input, and the Sigmoid, whose scale TFLite fixes"
    expected = run(model, FEEDS, optimize=False)["y"]
    assert np.abs(tflite(data, FEEDS) - expected).max() <= 1e-3 * np.abs(expected).max()
