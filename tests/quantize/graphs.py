"""Small float graphs and their statistics, made inline."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from exporter.types import TensorStats


def model_of(text: str, **arrays: np.ndarray) -> ir.Model:
    """A model from onnx text, with initializers given as arrays; shapes inferred."""
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\n' + text)
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def run(model: ir.Model, feeds: Mapping[str, np.ndarray], *, optimize: bool = True) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(feeds)), strict=True))


def stats_of(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> dict[str, TensorStats]:
    """Exact ranges of every float value, from one run."""
    wide = model.clone()
    for node in wide.graph:
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT and not value.is_graph_output():
                wide.graph.outputs.append(value)
    arrays = {**feeds, **run(wide, feeds, optimize=False)}
    return {
        name: TensorStats(float(a.min()), float(a.max()), a.size, np.ones(1, np.int64), float(a.min()), float(a.max()))
        for name, a in arrays.items()
    }
