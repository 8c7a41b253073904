"""Image operators in int8, inputs of any rank: both files, the same inputs, how many steps apart."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantize import apply, make_plan
from tests.numbers import noise
from tests.quantize.graphs import model_of, run, stats_of

LINE = "main (float[N,8,12] x) => (float[N,A,B] y) { a = Conv<pads=[1,1]>(x, w1, b) "
IMAGE = "main (float[N,8,8,8] x) => (float[N,A,B,C] y) { a = Conv<pads=[1,1,1,1]>(x, w2, b) "
VOLUME = "main (float[N,8,4,6,6] x) => (float[N,A,B,C,D] y) { a = Conv<pads=[1,1,1,1,1,1]>(x, w3, b) "
SHAPES = {LINE: (8, 12), IMAGE: (8, 8, 8), VOLUME: (8, 4, 6, 6)}

# graph, steps allowed, times that it leaves integers: 1 where they run from end to end
CASES = {
    "conv 1d": (LINE + "y = Conv<pads=[2,2], dilations=[2]>(a, w1, b) }", 0, 1),
    "conv 1d, depthwise": (LINE + "y = Conv<pads=[2,0], group=8>(a, d1, b) }", 0, 1),
    "conv 3d": (VOLUME + "y = Conv<strides=[2,1,2], pads=[1,0,1,1,2,1]>(a, w3, b) }", 0, 1),
    "conv 3d, groups": (VOLUME + "y = Conv<group=4, pads=[1,1,1,1,1,1]>(a, g3, b) }", 0, 1),
    "max pool 1d": (LINE + "y = MaxPool<kernel_shape=[3], strides=[2], pads=[1,1]>(a) }", 0, 1),
    "max pool 3d": (VOLUME + "y = MaxPool<kernel_shape=[2,2,2], strides=[2,2,2]>(a) }", 0, 1),
    "max pool, dilated": (IMAGE + "y = MaxPool<kernel_shape=[2,2], dilations=[2,2], pads=[1,1,0,0]>(a) }", 0, 1),
    "average pool, padding counts": (
        IMAGE + "y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], count_include_pad=1>(a) }", 0, 1,
    ),
    "average pool 1d": (LINE + "y = AveragePool<kernel_shape=[2], strides=[2]>(a) }", 0, 1),
    "average pool, same": (IMAGE + "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(a) }", 1, 1),
    "average pool, padding does not count": (
        IMAGE + "y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(a) }", 1, 2,
    ),
    "average pool 3d": (VOLUME + "y = AveragePool<kernel_shape=[2,2,2]>(a) }", 0, 1),
    "global max pool": (IMAGE + "y = GlobalMaxPool(a) }", 0, 1),
    "global average pool 3d": (VOLUME + "y = GlobalAveragePool(a) }", 0, 1),
    "transposed": (IMAGE + "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(a, t, b) }", 0, 1),
    "transposed, relu": (IMAGE + "c = ConvTranspose<strides=[2,2]>(a, t, b) y = Relu(c) }", 0, 1),
    "transposed 1d": (LINE + "y = ConvTranspose<strides=[2], pads=[1,1]>(a, t1, b) }", 0, 1),
    "pad with a number": (IMAGE + "y = Pad(a, pads, half) }", 0, 1),
    "pad, reflect": (IMAGE + 'y = Pad<mode="reflect">(a, pads) }', 0, 1),
    "pad, edge": (IMAGE + 'y = Pad<mode="edge">(a, pads) }', 0, 1),
    "resize, nearest": (IMAGE + 'y = Resize<mode="nearest">(a, , scales) }', 0, 1),
    "resize, linear": (IMAGE + 'y = Resize<mode="linear">(a, , scales) }', 1, 1),
    "resize, linear 1d": (LINE + 'y = Resize<mode="linear">(a, , scales1) }', 1, 1),
    "resize, cubic": (IMAGE + 'y = Resize<mode="cubic">(a, , scales) }', 1, 2),
    "resize, nearest 3d": (VOLUME + 'y = Resize<mode="nearest">(a, , scales3) }', 0, 1),
    "space to depth": (IMAGE + "y = SpaceToDepth<blocksize=2>(a) }", 0, 1),
    "depth to space, by column": (IMAGE + 'y = DepthToSpace<blocksize=2, mode="CRD">(a) }', 0, 1),
}  # fmt: skip

ARRAYS = {
    "w1": noise(8, 8, 3),
    "d1": noise(8, 1, 3),
    "w2": noise(8, 8, 3, 3),
    "w3": noise(8, 8, 3, 3, 3),
    "g3": noise(8, 2, 3, 3, 3),
    "t": noise(8, 8, 4, 4),
    "t1": noise(8, 8, 4),
    "b": noise(8),
    "pads": np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int64),
    "half": np.float32(0.5),
    "scales": np.array([1, 1, 2, 3], np.float32),
    "scales1": np.array([1, 1, 2], np.float32),
    "scales3": np.array([1, 1, 2, 1, 2], np.float32),
}


@pytest.mark.parametrize("name", CASES)
def test_operator(name: str) -> None:
    text, steps, islands = CASES[name]
    words = set(text.replace(",", " ").replace("(", " ").replace(")", " ").split())
    model = prepare(model_of(text, **{k: a for k, a in ARRAYS.items() if k in words}), INT8_PASSES)
    head = next(h for h in SHAPES if text.startswith(h))
    feeds = {"x": np.random.default_rng(8).standard_normal((9, *SHAPES[head])).astype(np.float32)}
    plan = make_plan(model, stats_of(model, feeds))
    quantized = apply(model, plan)
    expected = run(emit_onnx(quantized), feeds)["y"]
    data = emit_tflite(quantized)
    actual = Interpreter(model_content=data, num_threads=1).get_signature_runner()(**feeds)["y"]
    found = plan.tensors.get("y") or plan.tensors["a"]
    scale = float(found.qparams.scale)
    apart = np.abs(np.rint(actual / scale) - np.rint(expected / scale))
    assert apart.max() <= steps, f"{(apart > 0).mean():.2%} of the values differ"
    codes = [o.code for o in read_tflite(data).operators]
    assert codes.count("QUANTIZE") == codes.count("DEQUANTIZE") == islands, codes
