"""Static shapes with the batch as 1, and which axes follow the batch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from exporter import graph
from exporter.control import straighten
from exporter.emit._standard import inline_standard
from exporter.errors import UnsupportedError
from exporter.folding import LARGEST, fold_constants
from exporter.ops import OPS
from exporter.ops.expansion import expand, rows_by_name

__all__ = ["Shapes", "fix_batch"]

_DEEPEST = 8  # definitions within definitions, loops within loops
Shapes = dict[str, tuple[tuple[int, ...], frozenset[int]]]
_RECURRENT = frozenset({"RNN", "GRU", "LSTM"})
_MOVES = frozenset({"Transpose", "Reshape", "Identity"})


def fix_batch(model: ir.Model) -> tuple[ir.Model, Shapes]:
    """A folded copy with batch 1, and for every value its shape and the axes that grow with the batch.

    Raises UnsupportedError for a dynamic dimension other than the first, for a shape that inference cannot find, and
    for numbers computed from the batch.
    """
    symbols = _symbols(model)
    one = _fixed(model, 1)
    sizes = _sizes(one)
    if not symbols:
        return one, {name: (shape, frozenset()) for name, shape in sizes.items()}
    two = _fixed(model, 2)
    moved = _sizes(two)
    _check_constants(one, two)
    shapes: Shapes = {}
    for name, shape in sizes.items():
        other = moved.get(name)
        if other is None:
            raise _follows(name, "its shape at another batch is not known")
        if len(other) != len(shape):
            raise _follows(name, "its rank follows the batch")
        shapes[name] = shape, frozenset(i for i, (a, b) in enumerate(zip(shape, other, strict=True)) if a != b)
    return one, shapes


def _follows(name: str, found: str) -> UnsupportedError:
    return UnsupportedError(name, "tensor", "shape", found, "export with a fixed batch")


def _symbols(model: ir.Model) -> set[str]:
    """Names of the batch: first dimensions, and the second of a sequence that a recurrent layer reads by time."""
    values = [v for v in model.graph.inputs if v.shape is not None]
    found = {str(v.shape[0]) for v in values if v.shape and not isinstance(v.shape[0], int)} | _batches_by_time(model)
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int) and str(size) not in found:
                raise UnsupportedError(
                    value.name or "", "input", "shape", f"dimension {axis} is dynamic ({size})",
                    "only the first may be, as the batch: fix the others",
                )  # fmt: skip
    return found


def _batches_by_time(model: ir.Model) -> set[str]:
    found = set()
    for node in model.graph:
        if node.op_type in _RECURRENT and not node.attributes.get_int("layout", 0):
            shape = node.inputs[0].shape if node.inputs[0] is not None else None
            if shape is not None and len(shape) == 3 and not isinstance(shape[1], int):
                found.add(str(shape[1]))
    return found


def _fixed(model: ir.Model, batch: int) -> ir.Model:
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
            for _ in range(_DEEPEST):
                if not (straighten(copy) | expand(copy, OPS) | inline_standard(copy)):
                    break
                _fold(copy)
            return copy
    finally:
        logging.disable(level)


def _fold(model: ir.Model) -> None:
    _infer(model)
    fold_constants(model, rounds=2)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _turn_constants(model.graph)
    passes.RemoveUnusedNodesPass()(model)
    _infer(model)


def _infer(model: ir.Model) -> None:
    """onnx's inference, and the rows' own where it gives up; as long as either finds more."""
    graph.infer_shapes(model)
    while _infer_by_row(model.graph):
        graph.infer_shapes(model)


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
    """Large constants behind Transpose and Reshape: another view of the same memory, whatever their size."""
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
        else:
            turned = array
        name = graph.fresh_name(g, f"{node.outputs[0].name}_constant")
        value = graph.add_initializer(g, name, turned)
        node.outputs[0].replace_all_uses_with(value)
        g.remove(node, safe=True)


def _check_constants(one: ir.Model, two: ir.Model) -> None:
    """What folds to different numbers for another batch was computed from it, and would be wrong for all but one."""
    other = {v.name: v for v in _constants(two)}
    for value in _constants(one):
        twin = other.get(value.name)
        if twin is None or twin.const_value is value.const_value:
            continue
        first, second = graph.constant(value), graph.constant(twin)
        if first is None or second is None or first.dtype.kind not in "fbc":
            continue  # integers are shapes, which are compared tensor by tensor
        same = first.ndim == second.ndim and all(a in {1, b} for a, b in zip(first.shape, second.shape, strict=True))
        if not same or not np.array_equal(
            np.broadcast_to(first, second.shape), second, equal_nan=first.dtype.kind in "fc"
        ):
            raise _follows(value.name or "", "its numbers are computed from the batch")


def _constants(model: ir.Model) -> Iterator[ir.Value]:
    return iter(model.graph.initializers.values())


def _sizes(model: ir.Model) -> Mapping[str, tuple[int, ...]]:
    found = {}
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for value in [*values, *(v for node in model.graph for v in node.outputs)]:
        shape = _whole(value)
        if value.name and shape is not None:
            found[value.name] = shape
    return found


def _whole(value: ir.Value) -> tuple[int, ...] | None:
    shape = tuple(d for d in value.shape or () if isinstance(d, int))
    return shape if value.shape is not None and len(shape) == len(value.shape) else None
