"""Promise: DepthToSpace and SpaceToDepth are recognised; their channels lie in TFLite's order where a Conv sorts them.

PyTorch's pixel_shuffle keeps the pixels of a channel together (CRD), TFLite's DEPTH_TO_SPACE the channels of a pixel
(DCR). A convolution before or after gives or takes its channels in any order, so the one becomes the other for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph

__all__ = ["blocks"]

# operators that treat every number alike
_ALIKE = {"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity"}


def blocks(model: ir.Model) -> None:
    """Recognise what exporters write out, then sort channels."""
    for node in list(model.graph):
        if node.op_type == "Transpose" and node.domain == "":
            _recognise(model.graph, node)
    for node in list(model.graph):
        if node.op_type == "DepthToSpace" and graph.attribute(node, "mode", "DCR") == "CRD":
            _sort_before(model.graph, node)


def _recognise(g: ir.Graph, turn: ir.Node) -> None:
    """Reshape to six axes, Transpose, Reshape to four."""
    first = turn.inputs[0].producer() if turn.inputs[0] is not None else None
    last = graph.only_consumer(turn.outputs[0])
    if first is None or last is None or {first.op_type, last.op_type} != {"Reshape"}:
        return
    source, result = first.inputs[0], last.outputs[0]
    shapes = [graph.shape_of(v) if v is not None else None for v in (source, first.outputs[0], result)]
    if graph.only_consumer(first.outputs[0]) is not turn or source is None or any(s is None for s in shapes):
        return
    before, middle, after = (s or () for s in shapes)
    if (len(before), len(middle), len(after)) != (4, 6, 4) or None in (*before[1:], *middle[1:], *after[1:]):
        return
    match graph.attribute(turn, "perm"):
        case (0, 1, 4, 2, 5, 3) if middle[2] == middle[3]:
            _, channels, block, _, high, wide = middle
            _replace(g, last, "DepthToSpace", source, (before, after), channels, (high, wide), block, mode="CRD")
        case (0, 3, 4, 1, 5, 2) if middle[1] == middle[2]:
            _, block, _, channels, high, wide = middle
            _replace(g, last, "DepthToSpace", source, (before, after), channels, (high, wide), block, mode="DCR")
        case (0, 1, 3, 5, 2, 4) if middle[3] == middle[5]:
            _, channels, high, block, wide, _ = middle
            conv = _conv_after(result)
            if conv is not None and channels is not None and block is not None:
                made = _replace(g, last, "SpaceToDepth", source, (after, before), channels, (high, wide), block)
                if made:
                    _permute(g, conv, 1, _by_block(channels, block))


def _replace(
    g: ir.Graph,
    last: ir.Node,
    kind: str,
    source: ir.Value,
    shapes: tuple[Sequence[int | None], Sequence[int | None]],
    channels: int | None,
    size: tuple[int | None, int | None],
    block: int | None,
    **attributes: str,
) -> bool:
    """Write ``kind`` for the chain that ends in ``last``, if the shapes (deep, wide) are what it gives."""
    deep, wide = shapes
    assert channels is not None
    assert block is not None
    assert size[0] is not None
    assert size[1] is not None
    fits = tuple(deep[1:]) == (channels * block * block, *size)
    if not fits or tuple(wide[1:]) != (channels, size[0] * block, size[1] * block):
        return False
    made = ir.Node(
        "",
        kind,
        [source],
        ir.convenience.convert_attributes({"blocksize": block, **attributes}),
        name=last.name,
    )
    turn = last.inputs[0].producer() if last.inputs[0] is not None else None
    assert turn is not None
    first = turn.inputs[0].producer() if turn.inputs[0] is not None else None
    assert first is not None
    graph.replace(g, [last, turn, first], [made])
    return True


def _sort_before(g: ir.Graph, node: ir.Node) -> None:
    """Let the convolution before a DepthToSpace give its channels as DCR wants them."""
    block = graph.attribute(node, "blocksize")
    value = node.inputs[0]
    while value is not None and graph.only_consumer(value) is not None:
        maker = value.producer()
        if maker is None or maker.op_type not in {*_ALIKE, "Conv"}:
            return
        if maker.op_type == "Conv":
            weight = graph.constant(maker.inputs[1])
            fixed = weight is not None and (len(maker.inputs) < 3 or graph.constant(maker.inputs[2]) is not None)
            if fixed and weight is not None and graph.attribute(maker, "group", 1) == 1 and isinstance(block, int):
                _permute(g, maker, 0, _by_block(weight.shape[0] // block**2, block))
                node.attributes["mode"] = ir.AttrString("mode", "DCR")
            return
        value = maker.inputs[0]


def _conv_after(value: ir.Value) -> ir.Node | None:
    """The convolution that alone reads a value, through operators that treat every number alike."""
    reader = graph.only_consumer(value)
    while reader is not None and reader.op_type in _ALIKE and reader.inputs[0] is value:
        value = reader.outputs[0]
        reader = graph.only_consumer(value)
    plain = reader is not None and reader.op_type == "Conv" and graph.attribute(reader, "group", 1) == 1
    if not plain or reader is None or reader.inputs[0] is not value or graph.constant(reader.inputs[1]) is None:
        return None
    return reader


def _by_block(channels: int, block: int) -> npt.NDArray[np.int64]:
    """Place j of the DCR order holds this channel of the CRD order."""
    return np.arange(channels * block * block).reshape(channels, -1).T.reshape(-1)


def _permute(g: ir.Graph, conv: ir.Node, axis: int, order: npt.NDArray[np.int64]) -> None:
    """New weights (and for the output axis, a new bias) with their channels in ``order``."""
    for index in (1, 2) if axis == 0 else (1,):
        value = conv.inputs[index] if index < len(conv.inputs) else None
        array = graph.constant(value)
        if value is None or array is None:
            continue
        name = graph.fresh_name(g, f"{value.name}_by_block")
        conv.replace_input_with(index, graph.add_initializer(g, name, np.take(array, order, axis)))
