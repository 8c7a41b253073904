"""Weights whose numbers are float16's lie so in the file, behind a DEQUANTIZE: XNNPACK widens them once, when it loads.

A graph asks for it by widening a float16 constant (Cast). The kernels compute with the same float32 numbers either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.ops.lowering import Operator, Program, Region, Tensor

__all__ = ["asks_for_halves", "with_halves"]

_WEIGHTS = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
    "BATCH_MATMUL": 1,
    "GATHER": 0,
}
_FEWEST = 256  # bytes; less is not worth an operator


def asks_for_halves(model: ir.Model) -> bool:
    """Does a Cast read a constant of float16?"""
    for node in model.graph:
        array = graph.constant(node.inputs[0]) if node.op_type == "Cast" and node.inputs else None
        if array is not None and array.dtype == np.float16:
            return True
    return False


def with_halves(operators: Sequence[Operator], program: Program) -> list[Operator]:
    """The operators, each weight that float16 holds exactly behind a DEQUANTIZE of its own; also in bodies of loops."""
    widened: dict[int, Tensor | None] = {}
    found: list[Operator] = []
    for operator in (_with_halves_inside(operator) for operator in operators):
        place = _WEIGHTS.get(operator.code)
        weight = operator.inputs[place] if place is not None else None
        if weight is None or weight.data is None or weight.dtype != np.float32:
            found.append(operator)
            continue
        if id(weight) not in widened:
            half = _half(weight, program)
            widened[id(weight)] = None
            if half is not None:
                wide = Tensor(program.name(f"{weight.name}/float32"), weight.shape, weight.dtype)
                found.append(Operator("DEQUANTIZE", (half,), (wide,), ("DequantizeOptions", {})))
                widened[id(weight)] = wide
        wide_or_none = widened[id(weight)]
        if wide_or_none is None:
            found.append(operator)
            continue
        inputs = tuple(wide_or_none if tensor is weight else tensor for tensor in operator.inputs)
        found.append(Operator(operator.code, inputs, operator.outputs, operator.options))
    return found


def _with_halves_inside(operator: Operator) -> Operator:
    if operator.options is None:
        return operator
    table, fields = operator.options
    inside = {
        key: replace(value, operators=with_halves(value.operators, Program()))
        for key, value in fields.items()
        if isinstance(value, Region)
    }
    return replace(operator, options=(table, {**fields, **inside})) if inside else operator


def _half(weight: Tensor, program: Program) -> Tensor | None:
    assert weight.data is not None
    if weight.data.nbytes < _FEWEST:
        return None
    with np.errstate(over="ignore"):
        half = weight.data.astype(np.float16)
    return program.constant(half, stem=f"{weight.name}/float16") if np.array_equal(half, weight.data) else None
