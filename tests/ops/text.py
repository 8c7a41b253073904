"""Small graphs written as ONNX text, in both runtimes: the emitted TFLite in LiteRT against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.loading import from_proto

__all__ = ["Array", "Maker", "agree", "counts", "feeds_of", "graph", "run_onnx", "run_tflite"]

Array = npt.NDArray[Any]
Maker = Callable[[np.random.Generator, tuple[int, ...]], Array]


def graph(
    text: str, *, constants: Sequence[str] = (), makers: Mapping[str, Maker] | None = None, opset: int = 24
) -> onnx.ModelProto:
    """``text``: signature and body, as in ``(float[N,3] x) => (float[N,3] y) { y = Relu(x) }``. constants: inputs that
    become initializers, filled as ``feeds_of`` would."""
    head = f'<ir_version: 10, opset_import: ["" : {opset}, "ai.onnx.preview" : 1]> g '
    model = onnx.parser.parse_model(head + text)
    numbers = feeds_of(model, 1, makers)
    for value in [v for v in model.graph.input if v.name in constants]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(numbers[value.name], value.name))
        model.graph.input.remove(value)
    return model


def feeds_of(
    model: onnx.ModelProto, batch: int, makers: Mapping[str, Maker] | None = None, seed: int = 0
) -> dict[str, Array]:
    """Normal numbers, coins and small integers for every input; symbolic dimensions are the batch."""
    feeds = {}
    for place, value in enumerate(model.graph.input):
        rng = np.random.default_rng([seed, place])
        kind = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else batch for d in kind.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if makers and value.name in makers:
            feeds[value.name] = makers[value.name](rng, shape).astype(dtype)
        elif dtype.kind == "f":
            feeds[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            feeds[value.name] = rng.integers(0, 2, shape).astype(dtype)
    return feeds


def agree(
    text: str,
    *,
    constants: Sequence[str] = (),
    makers: Mapping[str, Maker] | None = None,
    batches: Sequence[int] = (1, 3),
    tolerance: float = 1e-5,
    opset: int = 24,
) -> bytes:
    """Both runtimes give the same shapes and, relative to the largest, the same numbers; returns the TFLite file."""
    model = graph(text, constants=constants, makers=makers, opset=opset)
    data = emit_tflite(from_proto(model))
    for batch in batches:
        feeds = feeds_of(model, batch, makers, seed=batch)
        found = run_tflite(data, feeds)
        for name, expected in run_onnx(model, feeds).items():
            assert (found[name].dtype, found[name].shape) == (expected.dtype, expected.shape), name
            same = np.abs(found[name] - expected) <= tolerance * max(np.abs(expected).max(initial=0), 1e-3)
            assert same.all(), f"{name}, batch {batch}: {found[name]} is not {expected}"
    return data


def run_onnx(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(feeds)), strict=True))


def run_tflite(data: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name; a dynamic batch takes the size of the feeds."""
    runner = Interpreter(model_content=data, num_threads=1).get_signature_runner()
    known = runner.get_input_details()
    outputs: dict[str, Array] = runner(**{n: a for n, a in feeds.items() if n in known})
    return outputs


def counts(data: bytes) -> dict[str, int]:
    """How many operators of each kind a file holds."""
    codes = [o.code for o in read_tflite(data).operators]
    return {code: codes.count(code) for code in dict.fromkeys(codes)}
