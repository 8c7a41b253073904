"""The TFLite file itself: constants behind the flatbuffer, several signatures, constants stored once."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter import grid
from exporter.content import Content
from exporter.emit.tflite import read_tflite, translate
from exporter.ops.lowering import mark
from tests.quantize.graphs import model_of, run


def perceptron(width: int, rows: str = "N") -> ir.Model:
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal((width, width)).astype(np.float32) / width for n in ("a", "b")}
    head = f"main (float[{rows},{width}] x) => (float[{rows},{width}] y) "
    return model_of(head + "{ h = Gemm<transB=1>(x, a) r = Relu(h) y = MatMul(r, b) }", **arrays)


def test_large_constants_lie_behind_the_flatbuffer(tmp_path: Path) -> None:
    model = perceptron(2100)  # 2 x 17.6 MB; the second one is written turned
    for value in model.graph.initializers.values():
        array = value.const_value.numpy() if value.const_value is not None else np.zeros(0)
        value.const_value = ir.tensor(array, name=value.name)  # not in a message of protobuf
    tracemalloc.start()
    content = translate({"serving_default": model})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6, "weights are copied"
    with (tmp_path / "model.tflite").open("wb") as file:
        content.write(file)
    data = (tmp_path / "model.tflite").read_bytes()
    assert len(content.pieces[0]) < 10_000
    assert len(data) == content.size == len(bytes(content))
    weights = [t.data for t in read_tflite(data).tensors if t.data is not None and t.bytes > 1 << 20]
    assert len(weights) == 2
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 2100)).astype(np.float32)}
    actual = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()(**feeds)["y"]
    np.testing.assert_allclose(actual, run(model, feeds)["y"], rtol=1e-4, atol=1e-6)


def test_signatures_share_their_constants() -> None:
    one = perceptron(300)
    data = bytes(translate({"prefill_8": perceptron(300, "8"), "decode": perceptron(300, "1")}))
    assert len(data) < 1.05 * len(bytes(translate({"decode": one}))) + 4096
    assert [s.signature for s in read_tflite(data).subgraphs] == ["prefill_8", "decode"]
    feeds = {"x": np.random.default_rng(1).standard_normal((8, 300)).astype(np.float32)}
    expected = run(one, feeds)["y"]
    interpreter = Interpreter(model_content=data)
    whole = interpreter.get_signature_runner("prefill_8")(**feeds)["y"]
    single = [interpreter.get_signature_runner("decode")(x=row[None])["y"][0] for row in feeds["x"]]
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.float16, ml_dtypes.int4])
def test_large_narrow_constants_that_are_equal_are_one(dtype: type) -> None:
    array = np.arange(1 << 20).reshape(1024, 1024).astype(np.int8).astype(dtype)
    array = np.concatenate([array, array])  # more than is compared as it is
    assert mark(array) == mark(array.copy())
    changed = array.copy()
    changed[-1, -1] = 3
    assert mark(array) != mark(changed)


def test_content_is_written_in_c_order_and_packed() -> None:
    rng = np.random.default_rng(0)
    turned = rng.standard_normal((3000, 1000)).astype(np.float32).T  # larger than a chunk
    nibbles = rng.integers(-8, 8, (5, 3)).astype(ml_dtypes.int4)
    large = rng.integers(-8, 8, (3, 1 << 21)).astype(ml_dtypes.int4)  # two rows are a chunk
    content = Content((large,))
    assert len(list(content.chunks())) == 2
    assert bytes(content) == grid.pack_bits(large.astype(np.int8), 4).tobytes()
    content = Content((b"head", turned, nibbles))
    assert len(list(content.chunks())) > 4
    body = bytes(content)
    assert len(body) == content.size
    assert body[4:-8] == np.ascontiguousarray(turned).tobytes()
