"""Operators that ONNX itself defines by simpler ones: written out with that definition where they have no row here."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from exporter.ops import OPS
from exporter.ops.expansion import rows_by_name

__all__ = ["has_definition", "inline_standard"]


def inline_standard(model: ir.Model) -> bool:
    """Replace every operator without a row by its function body, where the standard has one; True if any was."""
    found = [node for node in model.graph if rows_by_name(OPS, node) is None and has_definition(model, node)]
    for number, node in enumerate(found):
        function = ir.serde.deserialize_function(_body(model, node))
        # bodies may differ from node to node: each gets a name of its own
        function.domain, function.name = "kbit.standard", f"{node.op_type}_{number}"
        for domain in function.opset_imports:
            function.opset_imports[domain] = model.graph.opset_imports.setdefault(domain, 1)
        model.graph.opset_imports.setdefault(function.domain, 1)
        model.functions[function.identifier()] = function
        node.domain, node.op_type = function.domain, function.name
    if found:
        passes.InlinePass()(model)
    return bool(found)


def has_definition(model: ir.Model, node: ir.Node) -> bool:
    """Does the standard define this operator by others?"""
    schema = _schema(model, node)
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)


def _schema(model: ir.Model, node: ir.Node) -> Any:  # an onnx.defs.OpSchema, whose functions its type stubs lack
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = model.graph.opset_imports.get(domain)
    if version is None:
        return None
    try:
        return onnx.defs.get_schema(node.op_type, min(version, _newest(domain)), domain)
    except onnx.defs.SchemaError:
        return None


def _newest(domain: str) -> int:
    return onnx.defs.onnx_opset_version() if domain == "" else 1 << 16


def _body(model: ir.Model, node: ir.Node) -> Any:
    schema = _schema(model, node)
    assert schema is not None
    version = model.graph.opset_imports[node.domain if node.domain != "ai.onnx" else ""]
    if schema.has_function:
        data = schema.get_function_with_opset_version(_at_most(schema.function_opset_versions, version))
    else:
        types = [b"" if v is None else _type(v) for v in node.inputs]
        chosen = _at_most(schema.context_dependent_function_opset_versions, version)
        proto = ir.serde.serialize_node(node).SerializeToString()
        data = schema.get_context_dependent_function_with_opset_version(chosen, proto, types)
    proto = onnx.FunctionProto.FromString(data)
    made = {name for inner in proto.node for name in inner.output}
    while proto.output and proto.output[-1] not in made:  # an optional output that the node does not have
        proto.output.pop()
    return proto


def _at_most(versions: list[int], wanted: int) -> int:
    return max([v for v in versions if v <= wanted], default=min(versions))


def _type(value: ir.Value) -> bytes:
    proto = ir.serde.serialize_value(value).type
    data: bytes = proto.SerializeToString()
    return data
