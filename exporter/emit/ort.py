"""QDQ graph -> the form that ONNX Runtime runs on integer kernels.

Activations go from int8 to uint8 (integer + 128, zero_point + 128: the same real numbers). With int8 activations
ONNX Runtime 1.32 leaves half of a residual network in float: on ResNet-20, 9 of 19 convolutions and no Add become
integer, against all of them with uint8.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from exporter import graph
from exporter.emit._int16 import keep_wide
from exporter.emit.low_bits import place_weights
from exporter.types import Plan

__all__ = ["emit_onnx"]

_IR_VERSION = 10  # opset 21; newer opsets keep their own


def emit_onnx(model: ir.Model, plan: Plan | None = None) -> ir.Model:
    """A new graph for ONNX Runtime's CPU kernels; same names, same numbers. A float graph comes back as it is.

    plan  what ``model`` was made of by ``apply``; without it every weight keeps the form that it has
    int8 graph inputs and outputs (``io = "int8"``) keep their type. Metadata of the export (paths, stack traces)
    is left out.
    """
    result = model.clone()
    common_passes.ClearMetadataAndDocStringPass()(result)
    result.ir_version = (
        max(_IR_VERSION, result.ir_version) if result.graph.opset_imports.get("", 0) > 21 else _IR_VERSION
    )
    result.producer_name, result.producer_version = "kbit", None
    if plan is not None:
        place_weights(result, plan)
    keep_wide(result.graph)
    _let_concats_requantize(result.graph)
    _bridge_edges(result.graph)
    _to_unsigned(result.graph)
    common_passes.RemoveUnusedNodesPass()(result)
    graph.verify(result, "emit_onnx")
    return result


def _let_concats_requantize(g: ir.Graph) -> None:
    """QLinearConcat reads any grid, by a table of 256: a pair in front of it would be two kernels in float."""
    for node in g:
        for index, value in enumerate(node.inputs if node.op_type == "Concat" else ()):
            again = _maker(value, "DequantizeLinear")
            narrow = again and _maker(again.inputs[0], "QuantizeLinear")
            own = narrow and _maker(narrow.inputs[0], "DequantizeLinear")
            if narrow and own and own.inputs[0] is not None and own.inputs[0].dtype == narrow.outputs[0].dtype:
                node.replace_input_with(index, own.outputs[0])


def _maker(value: ir.Value | None, kind: str) -> ir.Node | None:
    maker = None if value is None else value.producer()
    return maker if maker is not None and maker.op_type == kind else None


def _bridge_edges(g: ir.Graph) -> None:
    """Between an int8 graph input or output and the uint8 inside: one DequantizeLinear -> QuantizeLinear pair."""
    for node in list(g):
        stored = node.inputs[0] if node.inputs else None
        if node.op_type == "DequantizeLinear" and stored is not None and _edge(stored, stored.is_graph_input()):
            _pair_after(g, node, node.outputs[0], [(u.node, u.idx) for u in node.outputs[0].uses()])
        if node.op_type == "QuantizeLinear" and _edge(node.outputs[0], node.outputs[0].is_graph_output()):
            real = node.inputs[0]
            assert real is not None
            _pair_after(g, node, real, [(node, 0)], before=True)


def _edge(stored: ir.Value, outside: bool) -> bool:
    """int16 ones have the same type inside."""
    return outside and stored.dtype == ir.DataType.INT8


def _pair_after(
    g: ir.Graph, node: ir.Node, real: ir.Value, uses: list[tuple[ir.Node, int]], *, before: bool = False
) -> None:
    scale, zero = node.inputs[1], node.inputs[2]
    name = graph.fresh_name(g, f"{real.name}_bridge")
    stored = ir.Value(name=f"{name}_quantized", shape=real.shape, type=ir.TensorType(ir.DataType.INT8))
    again = ir.Value(name=name, shape=real.shape, type=real.type)
    nodes = [
        ir.Node("", "QuantizeLinear", [real, scale, zero], outputs=[stored], name=f"{name}/quantize"),
        ir.Node("", "DequantizeLinear", [stored, scale, zero], outputs=[again], name=f"{name}/dequantize"),
    ]
    if before:
        g.insert_before(node, nodes)
    else:
        g.insert_after(node, nodes)
    for reader, index in uses:
        reader.replace_input_with(index, again)


def _to_unsigned(g: ir.Graph) -> None:
    """Every int8 activation between a QuantizeLinear and its DequantizeLinears becomes uint8."""
    shifted: dict[int, ir.Value] = {}
    for node in list(g):
        if node.op_type != "QuantizeLinear" or node.outputs[0].dtype != ir.DataType.INT8:
            continue
        stored = node.outputs[0]
        readers = graph.consumers(stored)
        if stored.is_graph_output() or any(r.op_type != "DequantizeLinear" for r in readers):
            continue
        for place in [node, *readers]:
            zero = place.inputs[2]
            assert zero is not None
            if id(zero) not in shifted:
                shifted[id(zero)] = _shifted(g, zero)
            place.replace_input_with(2, shifted[id(zero)])
        stored.type = ir.TensorType(ir.DataType.UINT8)  # a new type: clones share the old one
    for value in [v for v in g.initializers.values() if not v.uses() and not v.is_graph_output()]:
        assert value.name is not None
        del g.initializers[value.name]


def _shifted(g: ir.Graph, zero: ir.Value) -> ir.Value:
    array = graph.constant(zero)
    assert array is not None
    name = graph.fresh_name(g, f"{zero.name}_u8")
    return graph.add_initializer(g, name, np.asarray(np.asarray(array, np.int32) + 128, np.uint8))
