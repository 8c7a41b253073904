"""What onnx_ir lacks and every stage needs: constants of values, single consumers, small edits, verification."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from exporter.errors import GraphError

__all__ = [
    "KEEP_FLOAT",
    "add_initializer",
    "adopt_constants",
    "attribute",
    "constant",
    "consumers",
    "fixed_batch",
    "fresh_name",
    "held",
    "is_constant",
    "node_name",
    "only_consumer",
    "replace",
    "same_first",
    "shape_of",
    "stored",
    "take_over",
    "verify",
]

KEEP_FLOAT = "kbit.keep_float"  # metadata of a node that must not be quantized: the reason


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of an initializer or of a Constant node's output; None when the value is computed or a graph input."""
    if value is None or value.is_graph_input():
        return None
    return None if value.const_value is None else value.const_value.numpy()


def stored(value: ir.Value | None) -> ir.Value | None:
    """The integers that a DequantizeLinear makes the value of; None for a value that none makes."""
    maker = None if value is None else value.producer()
    return maker.inputs[0] if maker is not None and maker.op_type == "DequantizeLinear" else None


def held(value: ir.Value | None) -> ir.Value | None:
    """What a value's numbers are kept in: the integers that it is dequantized from, else the value itself."""
    integers = stored(value)
    return value if integers is None else integers


def is_constant(value: ir.Value | None) -> bool:
    """A constant, or one behind a DequantizeLinear?"""
    return constant(held(value)) is not None


def shape_of(value: ir.Value) -> tuple[int | None, ...] | None:
    """Dimensions, None for a symbolic one; None when the rank is unknown."""
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def fixed_batch(model: ir.Model) -> int | None:
    """The first dimension of all inputs, where it is one number; None: as many samples as one likes."""
    return same_first(shape_of(value) or () for value in model.graph.inputs if not value.is_initializer())


def same_first(shapes: Iterable[Sequence[int | str | None]]) -> int | None:
    """The first dimension of all of them, where it is one number."""
    found = {shape[0] if shape else None for shape in shapes}
    size = next(iter(found)) if len(found) == 1 else None
    return size if isinstance(size, int) else None


def consumers(value: ir.Value) -> list[ir.Node]:
    """Nodes that read the value, each once, in the order of use."""
    return list(dict.fromkeys(use.node for use in value.uses()))


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that reads the value, or None when there are more, none, or it is also a graph output."""
    nodes = consumers(value)
    return nodes[0] if len(nodes) == 1 and not value.is_graph_output() else None


def attribute(node: ir.Node, name: str, default: object = None) -> object:
    """Plain Python value of an attribute (int, float, str, tuple), or ``default``."""
    found = node.attributes.get(name)
    if found is None:
        return default
    value = found.value
    return tuple(value) if isinstance(value, (list, tuple)) else value


def node_name(node: ir.Node) -> str:
    """The name that the plan, keep_float and the reports use."""
    return node.name or node.outputs[0].name or node.op_type


def fresh_name(graph: ir.Graph, stem: str) -> str:
    """``stem``, or stem_1, stem_2 …: a value name not yet used in the graph."""
    taken = {v.name for v in graph.inputs} | set(graph.initializers)
    for node in graph:
        taken.update(v.name for v in node.outputs)
    name, count = stem, 0
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    return name


def take_over(new: ir.Value, old: ir.Value) -> None:
    """``new`` gets the readers and the name of ``old``, its place among the graph's outputs, and what it lacks of shape
    and type."""
    new.shape = old.shape if new.shape is None else new.shape
    new.type = old.type if new.type is None else new.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    new.name, old.name = old.name, None


def replace(graph: ir.Graph, old: Sequence[ir.Node], made: Sequence[ir.Node], *, before: ir.Node | None = None) -> None:
    """``made`` in place of ``old``: the output of the last one made takes over that of the first one named in ``old``.

    before  the node that they stand before; None: the first one named
    """
    graph.insert_before(before or old[0], made)
    take_over(made[-1].outputs[0], old[0].outputs[0])
    graph.remove(old, safe=True)


def add_initializer(graph: ir.Graph, name: str, array: npt.NDArray[np.generic] | ir.TensorProtocol) -> ir.Value:
    """Register a constant under exactly ``name`` (the caller makes it unique) and return its value."""
    tensor = ir.tensor(np.asarray(array), name=name) if isinstance(array, np.ndarray | np.generic) else array
    shape = ir.Shape(tensor.shape.numpy())
    value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def adopt_constants(model: ir.Model) -> None:
    """Register constants that nodes read and the graph does not know: onnxscript's optimizer loses one of two that it
    gives the same name (two Flatten of one value)."""
    for node in model.graph:
        for value in node.inputs:
            if value is None or value.const_value is None or value.producer() is not None:
                continue
            if value.graph is None and not value.is_graph_input():
                value.name = fresh_name(model.graph, value.name or "constant")
                model.graph.register_initializer(value)


def verify(model: ir.Model, after: str) -> None:
    """Raise GraphError unless names are unique, every input is produced before its use and onnx's checker agrees.

    ``after`` names the pass or stage that promised a sound graph.
    """
    seen: set[str] = set()
    _claim(seen, [*model.graph.inputs, *model.graph.initializers.values()], after)
    for node in model.graph:
        for value in node.inputs:
            if value is not None and value.name not in seen:
                what = f"node {node.name!r} reads {value.name!r}, which nothing before it makes"
                raise GraphError(f"after {after}: {what}")
        _claim(seen, node.outputs, after)
    for value in model.graph.outputs:
        if value.name not in seen:
            raise GraphError(f"after {after}: graph output {value.name!r} is made by no node")
    try:
        common_passes.CheckerPass()(model)
    except Exception as error:  # the checker's own error types live in C++
        raise GraphError(f"after {after}: {error}") from error


def _claim(seen: set[str], values: Sequence[ir.Value], after: str) -> None:
    for value in values:
        if not value.name:
            if value.uses():
                raise GraphError(f"after {after}: a value that is read has no name")
            continue
        if value.name in seen and not (value.is_graph_input() and value.is_initializer()):
            raise GraphError(f"after {after}: two values are named {value.name!r}")
        seen.add(value.name)
