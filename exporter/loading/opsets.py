"""Graphs of old opsets, converted by onnx's own converter and mended where that is wrong."""

from __future__ import annotations

import onnx

from exporter.inference import refuse_negative_sizes

__all__ = ["OPSET", "converted"]

OPSET = 21

_ADAPTED = 1 << 16  # bytes; what the version converter's adapters look into is smaller


def converted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """At OPSET. The converter knows only graphs in which every initializer is an input too, as in IR 3, and would
    copy large ones several times: they stay behind meanwhile."""
    known = {v.name for v in proto.graph.input}
    light = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    light.graph.name = proto.graph.name
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(light.graph, field).extend(getattr(proto.graph, field))
    heavy = []
    for tensor in proto.graph.initializer:
        if tensor.name not in known:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            light.graph.input.append(info)
        if tensor.ByteSize() > _ADAPTED or tensor.data_location == onnx.TensorProto.EXTERNAL:
            heavy.append(tensor)
        else:
            light.graph.initializer.append(tensor)
    refuse_negative_sizes(light)  # the converter infers shapes too
    result = onnx.version_converter.convert_version(light, OPSET)
    result.graph.initializer.extend(heavy)
    if max((o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"}), default=OPSET) < _WITH_PLACES:
        _keep_places(result.graph)
    return result


_WITH_PLACES = 11  # the first opset in which Resize says where its places lie


def _keep_places(graph: onnx.GraphProto) -> None:
    """Before opset 11 place x of an axis lay at x / scale; the converter leaves the new default, half a pixel off.

    Of two neighbours ONNX Runtime takes the lower one where an axis grows, the upper one where it shrinks
    (upsamplebase.h, "simple").
    """
    known = {t.name: t for t in graph.initializer}
    known |= {n.output[0]: a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _keep_places(attribute.g)
        if node.op_type != "Resize" or node.domain not in {"", "ai.onnx"}:
            continue
        scales = known.get(node.input[2]) if len(node.input) > 2 else None
        shrinks = scales is not None and bool((onnx.numpy_helper.to_array(scales) < 1).any())
        node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
        node.attribute.append(onnx.helper.make_attribute("nearest_mode", "ceil" if shrinks else "floor"))
