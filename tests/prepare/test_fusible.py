"""What a layer would take in behind a pool or a move, and a BatchNormalization that no layer takes in."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantize import apply, make_plan
from exporter.recipe import Quantize
from exporter.rounding import round_weights
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

ARRAYS = {
    "w": noise(4, 4, 3, 3), "w1": noise(4, 4, 1, 1), "m": noise(4), "v": np.float32([0.2, 1, 2, 3]),
    "up": np.float32([0.5, 1, 2, 0.1]), "down": np.float32([0.5, -1, 2, 0.1]), "flat": np.int64([0, -1]),
    "zero": np.float32(0), "six": np.float32(6), "low": np.float32(-1),
}  # fmt: skip
POOL = "MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(c)"
# body from the layer's output c to y, operators that are left (the first Conv not told)
CASES = {
    "relu behind a pool": (f"p = {POOL}  y = Relu(p)", "Relu MaxPool"),
    "clip behind a pool": (f"p = {POOL}  y = Clip(p, zero, six)", "Clip MaxPool"),
    "norm and relu": (f"p = {POOL}  b = BatchNormalization(p, up, m, m, v)  y = Relu(b)", "Relu MaxPool"),
    "relu behind moves": ("p = Transpose<perm=[0,2,3,1]>(c)  q = Reshape(p, flat)  y = Relu(q)",
                          "Relu Transpose Reshape"),
    "relu behind a concat": ("d = Conv(x, w1)  p = Concat<axis=1>(c, d)  y = Relu(p)", "Conv Relu Relu Concat"),
    "a channel turned around": (f"p = {POOL}  y = BatchNormalization(p, down, m, m, v)", "MaxPool Conv"),
    "pool read by others": (f"p = {POOL}  r = Relu(p)  y = Add(r, p)", "MaxPool Relu Add"),
    "layer read by others": ("p = MaxPool<kernel_shape=[1,1]>(c)  r = Relu(p)  y = Add(r, c)", "MaxPool Relu Add"),
    "part read by others": ("p = Concat<axis=1>(c, x)  r = Relu(p)  q = Concat<axis=1>(x, c)  y = Add(r, q)",
                            "Concat Relu Concat Add"),
    "not from zero on": (f"p = {POOL}  y = Clip(p, low, six)", "MaxPool Clip"),
    "windows of padding alone": ("p = MaxPool<kernel_shape=[2,2], dilations=[3,3], pads=[1,1,1,1]>(c)  y = Relu(p)",
                                 "MaxPool Relu"),
    "norm before the layer": ("r = Relu(c)  b = BatchNormalization(r, down, m, m, v)  y = Relu(b)", "Relu Conv Relu"),
}  # fmt: skip


def test_a_norm_of_the_input_stays_in_float() -> None:
    text = "main (float[N,4,9,9] x) => (float[N,4,9,9] y) { b = BatchNormalization(x, up, m, m, v)  y = Conv(b, w1) }"
    model = model_of(text, **{n: ARRAYS[n] for n in ("up", "m", "v", "w1")})
    assert [node.op_type for node in prepare(model, INT8_PASSES).graph] == ["BatchNormalization", "Conv"]


@pytest.mark.parametrize("name", CASES)
def test_the_same_in_integers_from_end_to_end(name: str) -> None:
    body, left = CASES[name]
    result = "N,A" if "flat" in body else "N,A,B,C"
    text = f"main (float[N,4,9,9] x) => (float[{result}] y) {{ c = Conv<pads=[1,1,1,1]>(x, w)  {body} }}"
    model = model_of(text, **{n: a for n, a in ARRAYS.items() if f" {n}," in text or f" {n})" in text})
    prepared = prepare(model, INT8_PASSES)
    assert [node.op_type for node in prepared.graph][1:] == left.split()
    feeds = {"x": noise(6, 4, 9, 9)}
    exact = run(model, feeds)["y"]
    np.testing.assert_allclose(run(prepared, feeds)["y"], exact, rtol=1e-5, atol=1e-5)
    plan = make_plan(prepared, stats_of(prepared, feeds), Quantize(weights="int8"))
    quantized = apply(prepared, round_weights(prepared, plan))
    assert np.square(run(quantized, feeds)["y"] - exact).mean() < 1e-3 * np.square(exact).mean()  # 30 dB
    codes = [o.code for o in read_tflite(emit_tflite(quantized)).operators]
    if "low" not in body:  # a Clip apart that cuts off less than all below zero
        assert codes.count("DEQUANTIZE") == 1, codes
