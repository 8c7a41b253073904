"""Operators on constants, computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["compute", "computed"]

_SMALL = 1 << 16  # elements
_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
_KEPT = {"QuantizeLinear", "DequantizeLinear", *_RANDOM}

Array = npt.NDArray[Any]


def compute(model: ir.Model) -> bool:
    """Replace operators on small constants by their results; True if there was any. (onnxscript's optimizer leaves out
    ConstantOfShape, and operators of several outputs.)"""
    changed = False
    for node in list(model.graph):
        if any(v.is_graph_output() for v in node.outputs) or not node.inputs:
            continue
        arrays = computed(node, node.inputs, model.graph.opset_imports)
        if arrays is None:
            continue
        for old, array in zip(node.outputs, arrays, strict=True):
            name = graph.fresh_name(model.graph, f"{old.name}_known")
            old.replace_all_uses_with(graph.add_initializer(model.graph, name, array))
        model.graph.remove(node, safe=True)
        changed = True
    return changed


def computed(node: ir.Node, inputs: Sequence[ir.Value | None], opsets: Mapping[str, int]) -> list[Array] | None:
    """The outputs for these inputs by onnx's own evaluator; None where one is not a small constant, or it cannot."""
    arrays = {f"i{n}": graph.constant(v) for n, v in enumerate(inputs) if v is not None}
    if node.op_type in _KEPT or any(a is None or a.size > _SMALL for a in arrays.values()):
        return None
    if any(a.type in {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS} for a in node.attributes.values()):
        return None
    found = _evaluate(node, arrays, opsets)
    return None if found is None or any(a.size > _SMALL for a in found) else found


def _outgrows(node: NodeProto, arrays: Mapping[str, Any], opsets: Mapping[str, int]) -> bool:
    """Is a result larger than what is computed? Four numbers may ask for a terabyte."""
    from onnx import helper, numpy_helper, shape_inference

    constants = [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    whole = helper.make_model(
        helper.make_graph([node], "one", [], outputs, initializer=constants),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
    )
    try:
        inferred = shape_inference.infer_shapes(whole, data_prop=True).graph.output
    except Exception:  # what it cannot infer, the evaluator refuses
        return False
    sizes = [math.prod(d.dim_value for d in v.type.tensor_type.shape.dim) for v in inferred]
    return any(size > _SMALL for size in sizes)


def _evaluate(node: ir.Node, arrays: Mapping[str, Any], opsets: Mapping[str, int]) -> list[Array] | None:
    """The node's outputs by onnx's own evaluator; None where it cannot."""
    from onnx import NodeProto
    from onnx.reference import ReferenceEvaluator

    names = ["" if v is None else f"i{n}" for n, v in enumerate(node.inputs)]
    attributes = [ir.to_proto(a) for a in node.attributes.values()]
    proto = NodeProto(op_type=node.op_type, domain=node.domain, input=names, attribute=attributes)
    proto.output.extend(f"o{n}" for n in range(len(node.outputs)))
    if _outgrows(proto, arrays, opsets):
        return None
    try:
        found = ReferenceEvaluator(proto, opsets=dict(opsets)).run(None, dict(arrays))
    except Exception:  # whatever it does not implement stays an operator
        return None
    return [np.asarray(a) for a in found] if all(isinstance(a, np.ndarray | np.generic) for a in found) else None
