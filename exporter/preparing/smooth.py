"""Promise: linear layers read activations whose channels have like ranges; the network computes the same.

SmoothQuant, Xiao et al. 2023, eq. 4: s_j = max|x_j|^alpha / max|w_j|^(1 - alpha); x is divided by s and the weights are
multiplied with it. Where a LayerNormalization makes x for such layers alone, the division goes into its scale and
bias; elsewhere it is one Mul.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.types import TensorStats

__all__ = ["linear_readers", "rows_of", "set_rows", "smooth", "smoothed_values"]

_ALPHA = 0.5
_MOST = 1e3  # of a scale


def smoothed_values(model: ir.Model) -> list[str]:
    """Names of the activations whose channel ranges ``smooth`` wants to see."""
    return list(linear_readers(model))


def smooth(model: ir.Model, stats: Mapping[str, TensorStats]) -> None:
    """In place; an activation without channel ranges is left alone."""
    for name, nodes in linear_readers(model).items():
        found = stats.get(name)
        if found is None or found.channel_low is None or found.channel_high is None:
            continue
        source = nodes[0].inputs[0]
        assert source is not None
        seen = np.maximum(np.abs(found.channel_low), np.abs(found.channel_high)).astype(np.float64)
        rows = [rows_of(node) for node in nodes]
        if any(row.shape[1] != len(seen) for row in rows):
            continue
        own = np.max([np.abs(row).max(axis=0) for row in rows], axis=0).astype(np.float64)
        scale = np.ones_like(seen)
        alive = (seen > 0) & (own > 0)
        scale[alive] = np.clip(seen[alive] ** _ALPHA / own[alive] ** (1 - _ALPHA), 1 / _MOST, _MOST)
        _divide(model.graph, source, nodes, scale)
        for node, row in zip(nodes, rows, strict=True):
            set_rows(model.graph, node, row * scale)


def linear_readers(model: ir.Model) -> dict[str, list[ir.Node]]:
    """Linear layers with constant weights, by the activation that they read."""
    found: dict[str, list[ir.Node]] = {}
    for node in model.graph:
        weight = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
        source = node.inputs[0] if node.inputs else None
        if node.op_type not in {"MatMul", "Gemm"} or weight is None or weight.ndim != 2 or weight.dtype != np.float32:
            continue
        if node.attributes.get_int("transA", 0) or source is None or source.name is None:
            continue
        if graph.constant(source) is None:
            found.setdefault(source.name, []).append(node)
    return found


def _is_turned(node: ir.Node) -> bool:
    return node.op_type == "MatMul" or not node.attributes.get_int("transB", 0)


def rows_of(node: ir.Node) -> npt.NDArray[np.float64]:
    """The weight as [out, in]."""
    weight = np.asarray(graph.constant(node.inputs[1]), np.float64)
    return weight.T if _is_turned(node) else weight


def set_rows(g: ir.Graph, node: ir.Node, rows: npt.NDArray[np.float64]) -> None:
    """Give the node another weight, [out, in]."""
    old = node.inputs[1]
    assert old is not None
    array = np.ascontiguousarray(rows.T if _is_turned(node) else rows).astype(np.float32)
    if graph.only_consumer(old) is node:
        old.const_value = ir.tensor(array, name=old.name)
    else:
        name = graph.fresh_name(g, f"{old.name}_smooth")
        node.replace_input_with(1, graph.add_initializer(g, name, array))


def _divide(g: ir.Graph, source: ir.Value, nodes: list[ir.Node], scale: npt.NDArray[np.float64]) -> None:
    maker = source.producer()
    alone = set(map(id, graph.consumers(source))) == set(map(id, nodes)) and not source.is_graph_output()
    if maker is not None and maker.op_type == "LayerNormalization" and alone and len(maker.inputs) > 1:
        numbers = [graph.constant(value) for value in maker.inputs[1:3]]
        own = [v for v in maker.inputs[1:3] if v is not None and graph.only_consumer(v) is maker]
        if all(n is not None for n in numbers) and len(own) == len(numbers):
            for value, array in zip(own, numbers, strict=True):
                divided = (np.asarray(array, np.float64) / scale).astype(np.float32)
                value.const_value = ir.tensor(divided, name=value.name)
            return
    name = graph.fresh_name(g, f"{source.name}_smooth")
    factor = graph.add_initializer(g, f"{name}_factor", (1 / scale).astype(np.float32))
    made = ir.Value(name=name, shape=source.shape, type=source.type)
    g.insert_before(min(nodes, key=list(g).index), [ir.Node("", "Mul", [source, factor], outputs=[made], name=name)])
    for node in nodes:
        node.replace_input_with(0, made)
