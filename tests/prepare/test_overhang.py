"""Averages whose last windows hang over the input: the same numbers in float, and in integers in both runtimes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantize import apply, make_plan
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

WINDOWS = list(
    itertools.product(("2,2", "3,3", "3,2"), ("2,2", "1,1", "3,2"), ("0,0,0,0", "1,1,1,1", "0,0,1,1", "1,0,1,0"))
)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize(("kernel", "strides", "pads"), WINDOWS)
def test_every_window_counts_what_it_holds(kernel: str, strides: str, pads: str, counted: int) -> None:
    said = f"ceil_mode=1, count_include_pad={counted}, kernel_shape=[{kernel}], strides=[{strides}], pads=[{pads}]"
    model = model_of(f"main (float[N,3,8,9] x) => (float[N,A,B,C] y) {{ y = AveragePool<{said}>(x) }}")
    feeds = {"x": noise(4, 3, 8, 9)}
    exact = run(model, feeds, optimize=False)["y"]
    ready = prepare(model, INT8_PASSES)
    np.testing.assert_allclose(run(ready, feeds)["y"], exact, rtol=1e-5, atol=1e-6)
    plan = make_plan(ready, stats_of(ready, feeds))
    quantized = apply(ready, plan)
    tflite = Interpreter(model_content=emit_tflite(quantized, plan)).get_signature_runner()(**feeds)["y"]
    for found in (run(emit_onnx(quantized, plan), feeds)["y"], tflite):
        assert np.square(found - exact).mean() < 1e-3 * np.square(exact).mean()  # 30 dB


def test_open_sizes_without_padding() -> None:
    said = "ceil_mode=1, count_include_pad=1, kernel_shape=[2,2], strides=[2,2]"
    model = model_of(f"main (float[N,3,H,W] x) => (float[N,A,B,C] y) {{ y = AveragePool<{said}>(x) }}")
    (node,) = prepare(model, INT8_PASSES).graph
    assert "count_include_pad" not in node.attributes
