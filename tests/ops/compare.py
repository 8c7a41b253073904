"""One small ONNX graph through ONNX Runtime and through our TFLite file, on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.loading import from_proto
from tests.numbers import noise

__all__ = ["Case", "Pair", "agree", "both", "graph_of", "node", "tflite"]


def node(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(op, list(inputs), list(outputs), **attributes)


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    feeds: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
    outputs: Mapping[str, Any] | Sequence[str] = ("y",),
    *,
    batch: str | None = None,
    opset: int = 21,
) -> onnx.ModelProto:
    """A model; ``batch`` names the first dimension of every input. Output types: float unless a dtype is given."""
    kinds = outputs if isinstance(outputs, Mapping) else dict.fromkeys(outputs, np.float32)
    graph = onnx.helper.make_graph(
        list(nodes),
        "case",
        [
            onnx.helper.make_tensor_value_info(
                name,
                onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
                [batch, *array.shape[1:]] if batch and array.ndim else array.shape,
            )
            for name, array in feeds.items()
        ],
        [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)), None)
            for name, kind in kinds.items()
        ],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return inferred


@dataclass(frozen=True, slots=True)
class Pair:
    """What both runtimes gave, and the builtins of the TFLite file in order."""

    expected: Sequence[np.ndarray]
    actual: Sequence[np.ndarray]
    codes: Sequence[str]


def both(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], *, channels_last: bool = False) -> Pair:
    """Run both; with ``channels_last`` the TFLite file takes and gives 4-d tensors as NHWC, turned here."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = ort.InferenceSession(model.SerializeToString(), options).run(None, dict(feeds))
    data = emit_tflite(from_proto(model), channels_last=channels_last)
    given = {n: a.transpose(0, 2, 3, 1) if channels_last and a.ndim == 4 else a for n, a in feeds.items()}
    actual = _run(data, given, model)
    if channels_last:
        actual = [a.transpose(0, 3, 1, 2) if a.ndim == 4 else a for a in actual]
    return Pair(expected, actual, [o.code for o in read_tflite(data).operators])


def tflite(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of our TFLite file alone, for what ONNX Runtime lacks."""
    return _run(emit_tflite(from_proto(model)), feeds, model)


def _run(data: bytes, feeds: Mapping[str, np.ndarray], model: onnx.ModelProto) -> list[np.ndarray]:
    found = Interpreter(model_content=data, num_threads=1).get_signature_runner()(**feeds)
    return [found[value.name] for value in model.graph.output]


def agree(pair: Pair, tolerance: float = 1e-5) -> None:
    """Same shapes and types, numbers within ``tolerance`` of the largest."""
    for expected, actual in zip(pair.expected, pair.actual, strict=True):
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
        if expected.dtype == np.bool_ or not expected.size:
            np.testing.assert_array_equal(actual, expected)
            continue
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


@dataclass(frozen=True, slots=True)
class Case:
    """One operator. ``shape``: of x, batch first; ``rest``: its other inputs, None for one left out.

    ``computed``: which of ``rest`` (from 0) are fed instead of constant. ``outputs``: dtypes.
    """

    op: str
    shape: tuple[int, ...]
    rest: tuple[Any, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    computed: tuple[int, ...] = ()
    outputs: tuple[Any, ...] = (np.float32,)
    opset: int = 21
    tolerance: float = 1e-5
    x: np.ndarray | None = None

    def graph(self, *, batch: int = 0, anchored: bool = False) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        """The model and its feeds.

        batch     0: as given and fixed; otherwise the first dimension is symbolic and fed with this many
        anchored  between two 1x1 convolutions, as inside a CNN
        """
        shape = (batch, *self.shape[1:]) if batch else self.shape
        feeds = {"x": noise(*shape) if self.x is None else self.x}
        constants: dict[str, np.ndarray] = {}
        names = ["x"]
        for i, array in enumerate(self.rest):
            names.append("" if array is None else f"r{i}")
            if array is not None:
                (feeds if i in self.computed else constants)[f"r{i}"] = np.asarray(array)
        outputs = [f"y{i}" if kind is not None else "" for i, kind in enumerate(self.outputs)]
        kinds = {f"y{i}": kind for i, kind in enumerate(self.outputs) if kind is not None}
        nodes = [node(self.op, names, outputs, **self.attributes)]
        if anchored:
            channels = self.shape[1]
            constants["into"] = noise(channels, channels, *[1] * (len(shape) - 2))
            nodes[0].input[0] = "a"
            nodes = [node("Conv", ["x", "into"], ["a"]), *nodes, node("Mul", ["y0", "two"], ["z"])]
            constants["two"] = np.float32(2)
            kinds = {"z": np.float32}
        model = graph_of(nodes, feeds, constants, kinds, batch="N" if batch else None, opset=self.opset)
        return model, feeds
