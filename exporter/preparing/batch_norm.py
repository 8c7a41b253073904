"""Promise: no BatchNormalization, and no constant multiplied or added per channel, is left right behind a Conv,
ConvTranspose, Gemm or MatMul of its own; no BatchNormalization of computed features right before a Gemm of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph

__all__ = ["batch_norm", "scale_and_shift"]

Floats = npt.NDArray[np.float64]


def batch_norm(model: ir.Model) -> None:
    """Fold y = (conv(x) - mean) * gamma / sqrt(var + epsilon) + beta into weight and bias, in float64; so are frozen
    batch norms (Mul, Add) and layer scales."""
    for node in list(model.graph):
        if node.op_type == "BatchNormalization":
            numbers = scale_and_shift(node)
            if numbers is not None and not _fold_into_producer(model.graph, node, *numbers):
                _fold_into_reader(model.graph, node, *numbers)
        elif node.op_type in {"Mul", "Add"} and node.domain == "":
            _fold_constant(model.graph, node)


def scale_and_shift(node: ir.Node) -> tuple[Floats, Floats] | None:
    """A BatchNormalization of constants as scale * x + shift, [channels] each."""
    numbers = [graph.constant(v) for v in node.inputs[1:5]]
    if len(node.outputs) != 1 or any(n is None for n in numbers):
        return None
    gamma, beta, mean, variance = (np.asarray(n, np.float64) for n in numbers)
    scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    return scale, beta - mean * scale


def _fold_into_producer(g: ir.Graph, node: ir.Node, scale: Floats, shift: Floats) -> bool:
    source = node.inputs[0]
    producer = source.producer() if source is not None else None
    if source is None or producer is None or graph.only_consumer(source) is not node:
        return False
    if not _rescale(g, producer, scale, shift):
        return False
    _remove(g, node, source)
    return True


def _rescale(g: ir.Graph, layer: ir.Node, scale: Floats, shift: Floats) -> bool:
    """Let a layer give scale * y + shift, one number for each channel of its output."""
    weight = graph.constant(layer.inputs[1]) if len(layer.inputs) > 1 else None
    if weight is None or layer.op_type not in {"Conv", "ConvTranspose", "Gemm"}:
        return False
    axis, groups = _output_axis(layer), layer.attributes.get_int("group", 1)
    if layer.op_type == "ConvTranspose" and groups > 1:
        return False
    shape = [1] * weight.ndim
    shape[axis] = -1
    bias_value = layer.inputs[2] if len(layer.inputs) > 2 else None
    bias = np.zeros(scale.shape) if bias_value is None else graph.constant(bias_value)
    if bias is None or (layer.op_type == "Gemm" and layer.attributes.get_float("beta", 1.0) != 1.0):
        return False
    if (scale != 1).any():
        _set_input(g, layer, 1, np.asarray(weight, np.float64) * scale.reshape(shape))
    _set_input(g, layer, 2, np.asarray(bias, np.float64) * scale + shift)
    return True


def _fold_into_reader(g: ir.Graph, node: ir.Node, scale: Floats, shift: Floats) -> None:
    """gemm(scale * x + shift). Not of the model's input: integers would meet features of all sizes on one grid."""
    source, reader = node.inputs[0], graph.only_consumer(node.outputs[0])
    if source is None or source.producer() is None or reader is None or reader.op_type != "Gemm":
        return
    plain = all(reader.attributes.get_float(n, 1.0) == 1.0 for n in ("alpha", "beta"))
    weight, bias_value = graph.constant(reader.inputs[1]), reader.inputs[2] if len(reader.inputs) > 2 else None
    bias = np.zeros(1) if bias_value is None else graph.constant(bias_value)
    own = reader.inputs[1] is not None and graph.only_consumer(reader.inputs[1]) is reader
    if weight is None or bias is None or not plain or not own or graph.attribute(reader, "transA", 0):
        return
    rows = bool(graph.attribute(reader, "transB", 0))
    wide = np.asarray(weight, np.float64)
    columns = wide.T if rows else wide
    _set_input(g, reader, 1, wide * (scale if rows else scale[:, None]))
    _set_input(g, reader, 2, np.asarray(bias, np.float64) + shift @ columns)
    _remove(g, node, source)


def _fold_constant(g: ir.Graph, node: ir.Node) -> None:
    side = next((i for i in (0, 1) if _float_constant(node.inputs[i]) is not None), None)
    source = None if side is None else node.inputs[1 - side]
    array = None if side is None else _float_constant(node.inputs[side])
    if source is None or array is None or source.shape is None or array.ndim > len(source.shape):
        return
    layers, axis = _behind(node, source)
    weight = layers[0].inputs[1] if layers else None
    matrix = graph.constant(weight)
    if weight is None or matrix is None or graph.only_consumer(weight) is not layers[0]:
        return
    count = matrix.shape[_output_axis(layers[0])]
    numbers = _along(array, axis, len(source.shape), count)
    if numbers is None:
        return
    one, zero = np.ones(count), np.zeros(count)
    if layers[0].op_type != "MatMul":
        done = _rescale(g, layers[0], *((numbers, zero) if node.op_type == "Mul" else (one, numbers)))
    else:
        done = node.op_type == "Mul" and _rescale_product(g, layers, numbers)
    if done:
        _remove(g, node, source)


def _behind(node: ir.Node, value: ir.Value) -> tuple[list[ir.Node], int]:
    """The layer that alone makes ``value``, through transposes, with the Add of a MatMul's bias; and where
    its channels lie in ``value``. None where another node reads in between."""
    places, add, reader = list(range(len(value.shape or ()))), None, node
    while True:
        maker = value.producer()
        if maker is None or maker.domain != "" or graph.only_consumer(value) is not reader:
            return [], 0
        match maker.op_type:
            case "Transpose" if add is None:
                perm = maker.attributes.get_ints("perm", tuple(reversed(range(len(places)))))
                places = [perm[i] for i in places]
                inner = maker.inputs[0]
            case "Add" if add is None:
                add = maker
                side = next((i for i in (0, 1) if _float_constant(maker.inputs[i]) is not None), 1)
                inner = maker.inputs[1 - side]
            case "MatMul":
                return [maker] if add is None else [maker, add], places.index(len(places) - 1)
            case "Conv" | "ConvTranspose" | "Gemm" if add is None:
                return [maker], places.index(1)
            case _:
                return [], 0
        if inner is None:
            return [], 0
        value, reader = inner, maker


def _rescale_product(g: ir.Graph, layers: list[ir.Node], numbers: Floats) -> bool:
    """MatMul, and the Add of its bias, which must be one number for each column."""
    product, *adds = layers
    matrix = graph.constant(product.inputs[1])
    if matrix is None or matrix.ndim != 2:
        return False
    for add in adds:
        side = 0 if add.inputs[1] is product.outputs[0] else 1
        bias, rank = _float_constant(add.inputs[side]), len(add.outputs[0].shape or ())
        row = None if bias is None else _along(bias, rank - 1, rank, matrix.shape[1])
        if row is None:
            return False
        _set_input(g, add, side, row * numbers)
    _set_input(g, product, 1, np.asarray(matrix, np.float64) * numbers)
    return True


def _along(array: Floats, axis: int, rank: int, count: int) -> Floats | None:
    """One number for each channel, where a constant beside a value of this rank differs in no other axis."""
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(n != 1 for i, n in enumerate(shape) if i != axis) or shape[axis] not in {1, count}:
        return None
    return np.broadcast_to(array.reshape(-1), (count,))


def _float_constant(value: ir.Value | None) -> Floats | None:
    array = graph.constant(value)
    return array.astype(np.float64) if array is not None and array.dtype == np.float32 else None


def _remove(g: ir.Graph, node: ir.Node, source: ir.Value) -> None:
    """``source``, which alone it read, takes over its output's name and readers."""
    node.outputs[0].replace_all_uses_with(source, replace_graph_outputs=True)
    source.name = node.outputs[0].name
    g.remove(node, safe=True)


def _output_axis(node: ir.Node) -> int:
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 0 if node.op_type == "Conv" else 1


def _set_input(g: ir.Graph, node: ir.Node, index: int, array: Floats) -> None:
    old = node.inputs[index] if len(node.inputs) > index else None
    stem = (old.name if old is not None else None) or f"{node.name}.{'weight' if index == 1 else 'bias'}"
    value = graph.add_initializer(g, graph.fresh_name(g, f"{stem}_folded"), array.astype(np.float32))
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)
