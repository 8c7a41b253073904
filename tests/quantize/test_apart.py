"""A Concat reads one scale: narrow inputs that others read too keep theirs, and both runtimes requantize them alike."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.finetune import Network
from exporter.quantize import apply, make_plan
from exporter.quantize.requantized import align_requantized
from exporter.recipe import Quantize
from exporter.rounding import round_weights
from exporter.types import Plan
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

WIDE, NEAR = 20 * noise(4, 4, 1, 1), noise(4, 4, 1, 1) / 4
X = {"x": np.linspace(-1, 1, 16 * 4 * 8 * 8, dtype=np.float32).reshape(16, 4, 8, 8)[..., ::-1].copy()}
# what follows c = Conv(x, wide) and n = Conv(x, near), and which tensors a Concat reads on a second grid
CASES = {
    "read by a layer too": ("k = Concat<axis=1>(x, c)  y = Conv(k, h)", {"x"}),
    "alike": ("k = Concat<axis=1>(x, n)  y = Conv(k, h)", set()),
    "read by nothing else": ("k = Concat<axis=1>(n, c)  y = Conv(k, h)", set()),
    "behind a pool": ("p = MaxPool<kernel_shape=[1,1]>(x)  k = Concat<axis=1>(p, c)  y = Conv(k, h)", {"p"}),
    "by two": ("k = Concat<axis=1>(x, c)  l = Concat<axis=1>(c, x)  y = Add(k, l)", {"x"}),
    "one behind the other": (
        "k = Concat<axis=1>(x, n)  d = Conv(k, h)  l = Concat<axis=1>(k, c)  m = Conv(l, i)  y = Add(d, m)",
        {"k"},
    ),
    "made and read in float": (
        "s = Softplus(x)  k = Concat<axis=1>(s, c)  t = Softsign(s)  j = Conv(k, h)  y = Add(j, t)",
        set(),
    ),
    "read in float": ("s = Relu(x)  k = Concat<axis=1>(s, c)  t = Softsign(s)  j = Conv(k, h)  y = Add(j, t)", {"s"}),
    "twice the same": ("k = Concat<axis=1>(x, x)  l = Concat<axis=1>(k, c)  m = Conv(l, i)  y = Add(m, n)", {"k"}),
    "of a fixed scale": (
        "s = Sigmoid(c)  k = Concat<axis=1>(s, n)  m = Conv(n, n4)  j = Conv(k, h)  y = Add(j, m)", set(),
    ),
}  # fmt: skip
ARRAYS = {"wide": WIDE, "near": NEAR, "h": noise(4, 8, 1, 1), "i": noise(4, 12, 1, 1), "n4": noise(4, 4, 1, 1)}


def build(name: str) -> ir.Model:
    body = CASES[name][0]
    lead = (
        "c = Conv(x, wide)  n = Conv(x, near)"
        if "(x, n)" in body or "(n" in body or ", n)" in body
        else "c = Conv(x, wide)"
    )
    text = f"main (float[N,4,8,8] x) => (float[N,A,8,8] y) {{ {lead}  {body} }}"
    return model_of(text, **{n: a for n, a in ARRAYS.items() if f" {n})" in text})


def planned(name: str, **wishes: str) -> tuple[ir.Model, Plan]:
    model = build(name)
    return model, make_plan(model, stats_of(model, X), Quantize(**wishes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_who_keeps_a_scale(name: str) -> None:
    _, plan = planned(name)
    assert {border.source for border in plan.borders} == CASES[name][1]
    assert Plan.from_json(plan.to_json()).borders == plan.borders
    for border in plan.borders:
        assert border.tensor.qparams.scale > 2 * plan.tensors[border.source].qparams.scale  # type: ignore[union-attr]


@pytest.mark.parametrize("wishes", [{"weights": "int4", "rounder": "brecq"}, {"activations": "int16"}])
def test_who_asks_for_one_grid_gets_it(wishes: dict[str, str]) -> None:
    assert not planned("read by a layer too", **wishes)[1].borders


@pytest.mark.parametrize("name", [name for name, (_, apart) in CASES.items() if apart and name != "read in float"])
def test_both_files_are_alike_and_closer_to_float(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, plan = planned(name)
    monkeypatch.setattr("exporter.quantize.plan.apart", lambda *_: set())
    _, shared = planned(name)
    exact, files = run(model, X)["y"], []
    for one in (plan, shared):
        rounded = round_weights(model, one)
        quantized = apply(model, rounded)
        found = run(emit_onnx(quantized, rounded.plan), X)["y"]
        tflite = emit_tflite(quantized, rounded.plan)
        files.append((found, Interpreter(model_content=tflite).get_signature_runner()(**X)["y"], tflite))
    step = plan.tensors["y"].qparams.scale  # type: ignore[union-attr]
    apart = np.abs(files[0][0] - files[0][1]) / step
    assert apart.max() < 0.5
    errors = [np.square(found - exact).mean() for found, _, _ in files]
    assert errors[0] < errors[1]
    codes = [[o.code for o in read_tflite(tflite).operators].count("QUANTIZE") for _, _, tflite in files]
    assert codes[0] == codes[1] + 1, "one requantization, whoever reads it"


def test_onnxruntime_requantizes_inside_the_concat() -> None:
    model, plan = planned("by two")
    kinds = [node.op_type for node in emit_onnx(apply(model, round_weights(model, plan)), plan).graph]
    assert kinds.count("QuantizeLinear") == kinds.count("Concat") + 3  # each Concat's own, x, c, y


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-4, 1), st.floats(2, 85), st.integers(-128, 127))
def test_aligned_requantizations_are_equal_in_both_runtimes(own: float, ratio: float, zero_point: int) -> None:
    steps = np.arange(-128, 128) - zero_point
    old = {"own": own, "all": own * ratio}
    new = old | align_requantized([("own", "all")], old, {"own": zero_point}, [])
    assert new["all"] == old["all"]
    assert 1 - 1e-5 <= new["own"] / own <= 1.7
    a, b = np.float32(new["own"]), np.float32(new["all"])
    onnxruntime = np.rint(steps.astype(np.float32) * a / b).astype(int)
    xnnpack = (steps * int(np.rint(256 * (a / b))) + 128) >> 8
    np.testing.assert_array_equal(onnxruntime, xnnpack)


def test_scales_of_sums_and_kernels_are_left() -> None:
    assert align_requantized([("own", "all")], {"own": 0.01, "all": 0.033}, {"own": 0}, ["own"]) == {}


def test_training_knows_the_second_grid() -> None:
    model, plan = planned("one behind the other")
    rounded = round_weights(model, plan)
    network = Network(model, rounded, {})
    with torch.no_grad():
        (made,) = network.forward({"x": torch.from_numpy(X["x"])}).values()
        expected = run(emit_onnx(apply(model, rounded), plan), X)["y"]
        step = plan.tensors["y"].qparams.scale  # type: ignore[union-attr]
        assert np.mean(np.abs(made.numpy() - expected) > 0.5 * step) < 0.001
        untouched = network.result().rounded.plan
        assert untouched.borders == plan.borders
        assert all(untouched.tensors[n].qparams == t.qparams for n, t in plan.tensors.items() if t.role == "activation")
        network.scales["l"].log += 0.3
    trained = network.result().rounded.plan
    (border,) = trained.borders
    assert border.tensor.qparams == trained.tensors["l"].qparams
    assert border.tensor.qparams != plan.borders[0].tensor.qparams
