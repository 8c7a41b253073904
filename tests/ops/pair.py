"""One operator, or a small graph, in both runtimes: the emitted TFLite in LiteRT against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.tflite import emit_tflite
from exporter.loading import from_proto

__all__ = ["Array", "check", "model_of", "run_onnx", "run_tflite", "same"]

Array = npt.NDArray[Any]
OPSET = 24


def model_of(
    op: str,
    inputs: Mapping[str, Array | None],
    *,
    constants: Sequence[str] = (),
    batch: Sequence[str] = (),
    permuted: bool = False,
    outputs: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    """A graph of one node. inputs: by name, in order; None is left out.

    constants  inputs that are initializers
    batch      inputs whose first dimension is symbolic
    permuted   every computed input of rank 2 and more comes transposed, and a Transpose in the graph turns it back
    """
    nodes, wires, values, initializers = [], [], [], []
    for name, array in inputs.items():
        if array is None:
            wires.append("")
            continue
        wires.append(name)
        if name in constants:
            initializers.append(onnx.numpy_helper.from_array(array, name))
            continue
        shape = ["N" if name in batch and i == 0 else n for i, n in enumerate(array.shape)]
        source, kind = name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        if permuted and array.ndim > 1:
            source, order = f"{name}_turned", _order(array.ndim)
            shape = [shape[a] for a in order]
            back = [order.index(a) for a in range(array.ndim)]
            nodes.append(onnx.helper.make_node("Transpose", [source], [name], perm=back))
        values.append(onnx.helper.make_tensor_value_info(source, kind, shape))
    made = [f"y{i}" for i in range(outputs)]
    nodes.append(onnx.helper.make_node(op, wires, made, **attributes))
    graph = onnx.helper.make_graph(nodes, "g", values, [onnx.ValueInfoProto(name=n) for n in made], initializers)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10)


def _order(rank: int) -> list[int]:
    """The first axis stays, the rest is turned round."""
    return [0, *range(rank - 1, 0, -1)]


def check(op: str, inputs: Mapping[str, Array | None], **how: Any) -> bytes:
    """Both runtimes agree on the graph of ``model_of``; returns the file."""
    model = model_of(op, inputs, **how)
    feeds = {n: a for n, a in inputs.items() if a is not None and n not in how.get("constants", ())}
    if how.get("permuted"):
        feeds = {
            (f"{n}_turned" if a.ndim > 1 else n): a.transpose(_order(a.ndim)) if a.ndim > 1 else a
            for n, a in feeds.items()
        }
    return same(model, feeds)


def same(model: onnx.ModelProto, feeds: Mapping[str, Array], tolerance: float = 1e-5, **emission: Any) -> bytes:
    """Both runtimes give the same types, shapes and numbers; returns the TFLite file."""
    wanted = run_onnx(model, feeds)
    data = emit_tflite(from_proto(model), **emission)
    found = run_tflite(data, feeds)
    for value, expected in zip(model.graph.output, wanted, strict=True):
        actual = found[value.name]
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), value.name
        if expected.dtype.kind in "fcV":
            within = max(tolerance, float(ml_dtypes.finfo(expected.dtype).eps) if expected.dtype.kind != "c" else 0)
            np.testing.assert_allclose(_wide(actual), _wide(expected), within, tolerance)
        else:
            np.testing.assert_array_equal(actual, expected)
    return data


def _wide(array: Array) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def run_onnx(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """ONNX Runtime, or onnx's own evaluator where it has no kernel for the type."""
    from onnx.reference import ReferenceEvaluator

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = session.run(None, dict(feeds))
    except Exception:
        found = ReferenceEvaluator(model).run(None, dict(feeds))
    return [np.asarray(a) for a in found]


def run_tflite(data: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name; a dynamic batch takes the size of the feeds."""
    runner = Interpreter(model_content=data, num_threads=1).get_signature_runner()
    known = runner.get_input_details()
    outputs: dict[str, Array] = runner(**{n: np.asarray(a, order="C") for n, a in feeds.items() if n in known})
    return outputs
