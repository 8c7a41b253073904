"""Operators on constants, computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph

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


def _evaluate(node: ir.Node, arrays: Mapping[str, Any], opsets: Mapping[str, int]) -> list[Array] | None:
    """The node's outputs by onnx's own evaluator; None where it cannot."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    names = ["" if v is None else f"i{n}" for n, v in enumerate(node.inputs)]
    attributes = [ir.to_proto(a) for a in node.attributes.values()]
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=names, attribute=attributes)
    proto.output.extend(f"o{n}" for n in range(len(node.outputs)))
    try:
        found = ReferenceEvaluator(proto, opsets=dict(opsets)).run(None, dict(arrays))
    except Exception:  # whatever it does not implement stays an operator
        return None
    return [np.asarray(a) for a in found] if all(isinstance(a, np.ndarray | np.generic) for a in found) else None
