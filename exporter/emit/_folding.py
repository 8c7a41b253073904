"""One graph for one batch: definitions written out, constants computed, shapes inferred."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from exporter import graph, inference
from exporter.control import compute, straighten
from exporter.emit._lifting import pair_integers
from exporter.emit._standard import inline_standard
from exporter.folding import LARGEST, fold_constants
from exporter.ops import OPS
from exporter.ops.expansion import expand, rows_by_name

__all__ = ["folded"]

_DEEPEST = 8  # definitions within definitions, loops within loops
_MOVES = frozenset({"Transpose", "Reshape", "Identity", "Cast"})


def folded(model: ir.Model, batch: int) -> tuple[ir.Model, bool]:
    """The graph for one batch, and whether operators were written out for its shapes."""
    copy = model.clone()
    for value in copy.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape([d if isinstance(d, int) else batch for d in value.shape])
    for node in copy.graph:
        for output in node.outputs:
            output.shape = None  # what the exporter wrote may name dimensions; inference finds them anew
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _fold(copy)
            rounds = 0
            while rounds < _DEEPEST and straighten(copy) | expand(copy, OPS) | pair_integers(copy) | inline_standard(
                copy
            ):
                _fold(copy)
                rounds += 1
            return copy, rounds > 0
    finally:
        logging.disable(level)


def _fold(model: ir.Model) -> None:
    _infer(model)
    fold_constants(model, rounds=2)
    if compute(model):
        fold_constants(model, rounds=2)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _turn_constants(model.graph)
    passes.RemoveUnusedNodesPass()(model)
    _infer(model)


def _infer(model: ir.Model) -> None:
    """onnx's inference, and the rows' own where it gives up; as long as either finds more."""
    inference.infer_shapes(model)
    while _infer_by_row(model.graph):
        inference.infer_shapes(model)


def _infer_by_row(g: ir.Graph) -> bool:
    changed = False
    for node in g:
        row = rows_by_name(OPS, node)
        if row is None or row.infer is None or all(_whole(v) is not None for v in node.outputs):
            continue
        if any(v is not None and v.name and _whole(v) is None for v in node.inputs):
            continue
        for value, shape in zip(node.outputs, row.infer(node), strict=False):
            if _whole(value) is None:
                value.shape = ir.Shape(shape)
                value.type = value.type or (node.inputs[0].type if node.inputs[0] is not None else None)
                changed = True
    return changed


def _turn_constants(g: ir.Graph) -> None:
    """Large constants behind Transpose and Reshape: another view of the same memory, whatever their size. Those of
    float16 are widened: the emitter narrows them again."""
    for node in list(g):
        array = graph.constant(node.inputs[0]) if node.op_type in _MOVES and node.domain == "" else None
        if array is None or array.size <= LARGEST or node.outputs[0].is_graph_output():
            continue
        if node.op_type == "Transpose":
            turned = array.transpose(node.attributes.get_ints("perm", tuple(reversed(range(array.ndim)))))
        elif node.op_type == "Reshape":
            target = _whole(node.outputs[0])
            if target is None:
                continue
            turned = array.reshape(target)
        elif node.op_type == "Cast":
            if array.dtype != np.float16 or node.attributes.get_int("to", 0) != ir.DataType.FLOAT:
                continue
            turned = array.astype(np.float32)
        else:
            turned = array
        name = graph.fresh_name(g, f"{node.outputs[0].name}_constant")
        value = graph.add_initializer(g, name, turned)
        node.outputs[0].replace_all_uses_with(value)
        g.remove(node, safe=True)


def _whole(value: ir.Value) -> tuple[int, ...] | None:
    shape = tuple(d for d in value.shape or () if isinstance(d, int))
    return shape if value.shape is not None and len(shape) == len(value.shape) else None
