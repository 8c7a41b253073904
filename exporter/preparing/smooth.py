"""Promise: linear layers read and write activations whose channels have like ranges; the network computes the same.

SmoothQuant, Xiao et al. 2023, eq. 4: s_j = max|x_j|^alpha / max|w_j|^(1 - alpha); x is divided by s and the weights are
multiplied with it. Where a LayerNormalization makes x for such layers alone, the division goes into its scale and
bias; elsewhere it is one Mul, in float. Where float nodes alone read what a layer writes (the residual stream, a GELU),
its outputs are brought to one range too: rows of weight and bias are divided by what the float result is multiplied by.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.ops import OPS, Float
from exporter.types import TensorStats

__all__ = ["linear_readers", "rows_of", "set_rows", "smooth", "smoothed_values"]

_ALPHA = 0.5
_MOST = 1e3  # of a scale
_WIDEST = 64.0  # an output channel is widened at most so many times
_WHY = "evens out channels: on one grid it would do the opposite"


def smoothed_values(model: ir.Model) -> list[str]:
    """Names of the activations whose channel ranges ``smooth`` wants to see."""
    return [*linear_readers(model), *(str(node.outputs[0].name) for node, _ in _float_outputs(model))]


def smooth(model: ir.Model, stats: Mapping[str, TensorStats]) -> int:
    """In place; an activation without channel ranges is left alone. Returns how many activations were changed."""
    changed = 0
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
        changed += 1
        _divide(model.graph, source, nodes, scale)
        for node, row in zip(nodes, rows, strict=True):
            set_rows(model.graph, node, row * scale)
    for node, end in _float_outputs(model):
        found = stats.get(node.outputs[0].name or "")
        if found is not None and found.channel_low is not None and found.channel_high is not None:
            seen = np.maximum(np.abs(found.channel_low), np.abs(found.channel_high)).astype(np.float64)
            changed += 1
            _even_out(model.graph, node, end, np.where(seen > 0, np.maximum(seen / seen.max(), 1 / _WIDEST), 1.0))
    return changed


def _float_outputs(model: ir.Model) -> list[tuple[ir.Node, ir.Value]]:
    """Gemms with a constant weight, and their results (behind a reshape, if any) that only float nodes read."""
    found = []
    for nodes in linear_readers(model).values():
        for node in nodes:
            bias = node.inputs[2] if len(node.inputs) > 2 else None
            if node.op_type != "Gemm" or (bias is not None and graph.constant(bias) is None):
                continue
            end, columns = node.outputs[0], len(rows_of(node))
            reshape = graph.only_consumer(end)
            if reshape is not None and reshape.op_type == "Reshape":
                end = reshape.outputs[0]
            readers = graph.consumers(end)
            whole = end.shape is not None and end.shape[-1] == columns
            if whole and readers and not end.is_graph_output() and all(map(_is_float, readers)):
                found.append((node, end))
    return found


def _is_float(node: ir.Node) -> bool:
    """No integer kernel; or a sum of two computed values that only such nodes read."""
    row = OPS.get(node.op_type)
    if row is not None and isinstance(row.int8, Float):
        return True
    computed = node.op_type == "Add" and all(graph.constant(value) is None for value in node.inputs)
    readers = graph.consumers(node.outputs[0])
    kinds = [OPS.get(reader.op_type) for reader in readers]
    return computed and bool(kinds) and all(kind is not None and isinstance(kind.int8, Float) for kind in kinds)


def _even_out(g: ir.Graph, node: ir.Node, end: ir.Value, share: npt.NDArray[np.float64]) -> None:
    """Row j divided by share[j], and the float result multiplied with it."""
    set_rows(g, node, rows_of(node) / share[:, None])
    if len(node.inputs) > 2 and (bias := graph.constant(node.inputs[2])) is not None:
        name = graph.fresh_name(g, f"{node.outputs[0].name}_bias")
        node.replace_input_with(
            2, graph.add_initializer(g, name, (np.asarray(bias, np.float64).reshape(-1) / share).astype(np.float32))
        )
    name = graph.fresh_name(g, f"{end.name}_evened")
    factor = graph.add_initializer(g, f"{name}_factor", share.astype(np.float32))
    made = ir.Value(name=name, shape=end.shape, type=end.type)
    readers = list(end.uses())
    mul = ir.Node("", "Mul", [end, factor], outputs=[made], name=name)
    mul.metadata_props[graph.KEEP_FLOAT] = _WHY
    maker = end.producer()
    assert maker is not None
    g.insert_after(maker, [mul])
    for use in readers:
        use.node.replace_input_with(use.idx, made)


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
    mul = ir.Node("", "Mul", [source, factor], outputs=[made], name=name)
    mul.metadata_props[graph.KEEP_FLOAT] = _WHY
    g.insert_before(min(nodes, key=list(g).index), [mul])
    for node in nodes:
        node.replace_input_with(0, made)
