"""Which nodes of a QDQ graph keep their weights as integers in a TFLite file, and how narrow they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.lowering import Quant, Storage
from exporter.ops.matmul import plain_gemm
from exporter.ops.recurrent_weights import RECURRENT
from exporter.ops.stored import BLOCKS
from exporter.types import Plan

__all__ = ["Stored", "stored_weights", "weight_index"]

_LINEAR = frozenset({"Gemm", "MatMul"})
_NARROW = frozenset({"int4", "int2"})


@dataclass(frozen=True, slots=True)
class Stored:
    """Names of quantized initializers. dynamic: of nodes whose input becomes int8 in each run; few: of few bits."""

    dynamic: frozenset[str]
    few: frozenset[str]
    smallest: bool = False

    def of(self, node: ir.Node, quant: Quant | None) -> Storage:
        """How the node may keep its weight, which is quantized so."""
        stored = _stored(node)
        array = graph.constant(stored)
        if stored is None or array is None or quant is None or array.dtype == np.int16 or not _fits(node, array):
            return Storage()
        few = stored.name in self.few or array.dtype.name in _NARROW
        dynamic = stored.name in self.dynamic and not quant.zero_point.any()
        inputs = (1, 2) if node.op_type in RECURRENT else (1,)
        return Storage(_keeps(node, array, quant, dynamic=dynamic), few, self.smallest, inputs)


def weight_index(node: ir.Node) -> int:
    """Where a node reads the constant that this is about."""
    return 0 if node.op_type == "Gather" else 1


def _stored(node: ir.Node) -> ir.Value | None:
    """What lies behind the DequantizeLinear of its weight."""
    index = weight_index(node)
    value = node.inputs[index] if len(node.inputs) > index else None
    return graph.stored(value)


def _keeps(node: ir.Node, array: np.ndarray, quant: Quant, *, dynamic: bool) -> Literal["float", "folded", "hybrid"]:
    by_row = node.op_type == "Gather"
    if quant.block:
        narrow = int(array.min()) >= -8 and int(array.max()) <= 7
        whole = quant.axis is not None and array.shape[quant.axis] % quant.block == 0
        sound = narrow and whole and quant.block in BLOCKS and not quant.zero_point.any()
        return "hybrid" if sound and (by_row or (dynamic and node.op_type in _LINEAR)) else "float"
    if by_row:
        return "hybrid" if quant.axis in {None, 0} and not quant.zero_point.any() else "float"
    if dynamic and node.op_type in _LINEAR | RECURRENT:
        return "hybrid"
    return "float" if quant.axis is not None and quant.zero_point.any() else "folded"


def stored_weights(model: ir.Model, plan: Plan | None, *, smallest: bool) -> Stored:
    """Read off the graph that ``apply`` made of the plan."""
    if plan is None:
        return Stored(frozenset(), frozenset(), smallest)
    dynamic = set()
    for node in model.graph:
        stored = _stored(node)
        if stored is not None and graph.node_name(node) in plan.dynamic_nodes:
            dynamic.add(stored.name)
    few = {f"{t.name}_quantized" for t in plan.tensors.values() if t.qparams is not None and t.qparams.scheme.bits < 8}
    return Stored(frozenset(n for n in dynamic if n), frozenset(few), smallest)


def _fits(node: ir.Node, array: np.ndarray) -> bool:
    if node.op_type == "Conv":
        return array.ndim <= 4
    if node.op_type in RECURRENT:
        return array.ndim == 3
    if node.op_type == "Gather":
        return array.ndim == 2 and graph.attribute(node, "axis", 0) == 0
    return array.ndim == 2 and (node.op_type == "MatMul" or (node.op_type == "Gemm" and plain_gemm(node)))
