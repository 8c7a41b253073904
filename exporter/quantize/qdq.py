"""Plan -> QDQ graph. Every number comes from the plan; the float graph is left as it was."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph, grid
from exporter.errors import PlanError
from exporter.quantize.regions import clamp_bounds
from exporter.quantize.weights import stored_inputs
from exporter.types import Border, PerChannel, PerGroup, PerTensor, Plan, QParams, Rounded, TensorPlan

__all__ = ["apply"]

_CLAMPS = frozenset({"Relu", "Clip"})


def apply(model: ir.Model, plan: Plan | Rounded, *, io: str = "float32") -> ir.Model:
    """A new graph in standard QuantizeLinear / DequantizeLinear form.

    Value ``x`` of the plan is followed by QuantizeLinear -> ``x_quantized`` -> DequantizeLinear ->
    ``x_dequantized``; a graph output keeps its name after the DequantizeLinear. At a border a second pair follows, for
    the readers that the plan names. Weights and biases become
    integer initializers ``w_quantized`` with a DequantizeLinear: of a bare plan, rounded to nearest; an operand that a
    node in float reads too stays as it is there. A weight of
    fewer than 8 bits is int8 here, with zero point 0 (integer - zero_point); how few bits the files take is for the
    emitters, which know the plan. A Relu or Clip that the integer range already
    performs is dropped (Jacob et al. 2018, section 2.4). ``io="int8"`` leaves the graph's inputs and outputs int8,
    ``io="int16"`` int16.
    Raises PlanError when the plan names a value that the graph does not have, or has inputs of another width than io.
    """
    rounded = plan if isinstance(plan, Rounded) else Rounded(plan, {})
    plan = rounded.plan
    result = model.clone()
    values = _values(result.graph)
    for name in plan.tensors:
        if name not in values:
            raise PlanError(
                f"the plan names tensor {name!r}, which the graph does not have", "plan and graph must match"
            )
    for name, tensor in plan.tensors.items():
        if tensor.kept == "float16":
            _narrow(result.graph, values[name])
        elif tensor.qparams is None:
            continue
        elif tensor.role == "activation":
            _quantize_activation(result.graph, values[name], tensor.qparams)
        else:
            _quantize_constant(result.graph, values[name], tensor, rounded)
    for border in plan.borders:
        _requantize(result.graph, border)
    for name, array in rounded.biases.items():
        if name not in plan.tensors:  # of a node that runs in float
            values[name].const_value = ir.tensor(array, name=name)
    _drop_clamps(result.graph)
    if io != "float32":
        _integer_io(result.graph, ir.DataType[io.upper()])
    graph.verify(result, "apply")
    return result


def _values(g: ir.Graph) -> dict[str, ir.Value]:
    found = {v.name: v for v in [*g.inputs, *g.initializers.values()]}
    for node in g:
        found.update({v.name: v for v in node.outputs})
    return {name: value for name, value in found.items() if name}


def _typed(integers: npt.NDArray[np.integer], q: QParams) -> npt.NDArray[np.generic]:
    """In the narrowest element type of numpy that holds the scheme."""
    bits, signed = q.scheme.bits, q.scheme.signed
    if bits <= 8:
        return integers.astype(np.int8 if signed else np.uint8, copy=False)
    if bits <= 16:
        return integers.astype(np.int16 if signed else np.uint16)
    return integers.astype(np.int32)


def _scale_and_zero(g: ir.Graph, name: str, q: QParams) -> tuple[ir.Value, ir.Value]:
    scale = graph.add_initializer(g, f"{name}_scale", q.scale)
    return scale, graph.add_initializer(g, f"{name}_zero_point", _typed(q.zero_point, q))


def _quantize_activation(g: ir.Graph, value: ir.Value, q: QParams) -> None:
    name = value.name
    assert name is not None
    if not isinstance(q.scheme.grain, PerTensor):
        raise PlanError(f"activation {name!r} has a scale per channel", "activations take one scale")
    readers = list(value.uses())
    scale, zero = _scale_and_zero(g, name, q)
    quantized = ir.Value(
        name=f"{name}_quantized", shape=value.shape, type=ir.TensorType(zero.dtype or ir.DataType.INT8)
    )
    real = ir.Value(name=f"{name}_dequantized", shape=value.shape, type=value.type)
    nodes = [
        ir.Node("", "QuantizeLinear", [value, scale, zero], outputs=[quantized], name=f"{name}/quantize"),
        ir.Node("", "DequantizeLinear", [quantized, scale, zero], outputs=[real], name=f"{name}/dequantize"),
    ]
    producer = value.producer()
    if producer is None:
        first = next(iter(g), None)
        assert first is not None
        g.insert_before(first, nodes)
    else:
        g.insert_after(producer, nodes)
    for use in readers:
        use.node.replace_input_with(use.idx, real)
    if value.is_graph_output():
        for index, output in enumerate(g.outputs):
            if output is value:
                g.outputs[index] = real
        value.name, real.name = f"{name}_float", name


def _requantize(g: ir.Graph, border: Border) -> None:
    """A second pair behind the tensor's own one, for the readers of the other width."""
    name, q = border.tensor.name, border.tensor.qparams
    own = next((n for n in g if n.name == f"{border.source}/dequantize"), None)
    if own is None or q is None:
        raise PlanError(f"the plan requantizes {border.source!r}, which it does not quantize", "make the plan again")
    source = own.outputs[0]
    readers = [use for use in source.uses() if graph.node_name(use.node) in border.readers]
    scale, zero = _scale_and_zero(g, name, q)
    stored = ir.Value(name=f"{name}_quantized", shape=source.shape, type=ir.TensorType(zero.dtype or ir.DataType.INT8))
    real = ir.Value(name=f"{name}_dequantized", shape=source.shape, type=source.type)
    nodes = [
        ir.Node("", "QuantizeLinear", [source, scale, zero], outputs=[stored], name=f"{name}/quantize"),
        ir.Node("", "DequantizeLinear", [stored, scale, zero], outputs=[real], name=f"{name}/dequantize"),
    ]
    g.insert_after(own, nodes)
    for use in readers:
        use.node.replace_input_with(use.idx, real)


def _quantize_constant(g: ir.Graph, value: ir.Value, tensor: TensorPlan, rounded: Rounded) -> None:
    q, name = tensor.qparams, tensor.name
    if value.const_value is None or q is None:
        raise PlanError(f"the plan gives {name!r} as a {tensor.role}, but it is not a constant")
    integers: npt.NDArray[np.integer]
    if name in rounded.integers:  # then the float weight need not be read
        integers, shape = rounded.integers[name], tuple(value.const_value.shape.numpy())
        if integers.shape != shape:
            raise PlanError(f"integers of shape {integers.shape} for {name!r} of shape {shape}")
    else:
        array = value.const_value.numpy()
        integers = grid.quantize(np.asarray(rounded.biases.get(name, array), np.float32), q)
    zero_point = q.zero_point
    if tensor.role == "weight" and q.scheme.bits < 8:
        integers, zero_point = grid.centred(integers, q), np.zeros_like(zero_point)
    stored = graph.add_initializer(g, f"{name}_quantized", _typed(integers, q))
    scale = graph.add_initializer(g, f"{name}_scale", q.scale)
    zero = graph.add_initializer(g, f"{name}_zero_point", _typed(zero_point, q))
    attributes = _grain_attributes(q)
    real = ir.Value(name=f"{name}_dequantized", shape=value.shape, type=value.type)
    node = ir.Node("", "DequantizeLinear", [stored, scale, zero], attributes, outputs=[real], name=f"{name}/dequantize")
    _replace_constant(g, value, node, rounded.plan)


def _grain_attributes(q: QParams) -> list[ir.Attr]:
    match q.scheme.grain:
        case PerChannel(axis):
            return [ir.AttrInt64("axis", axis)]
        case PerGroup(axis, size):
            return [ir.AttrInt64("axis", axis), ir.AttrInt64("block_size", size)]
    return []


def _narrow(g: ir.Graph, value: ir.Value) -> None:
    """Stored as float16, read as float32."""
    array = graph.constant(value)
    assert array is not None
    assert value.name is not None
    stored = graph.add_initializer(g, f"{value.name}_float16", array.astype(np.float16))
    wide = ir.Value(name=f"{value.name}_float32", shape=value.shape, type=value.type)
    to = ir.AttrInt64("to", ir.DataType.FLOAT.value)
    _replace_constant(g, value, ir.Node("", "Cast", [stored], [to], outputs=[wide], name=f"{value.name}/widen"))


def _replace_constant(g: ir.Graph, value: ir.Value, node: ir.Node, plan: Plan | None = None) -> None:
    """Uses of the initializer read what ``node`` makes instead; not what ``plan`` leaves in float."""
    every = list(value.uses())
    uses = [u for u in every if plan is None or not _left_in_float(u.node, u.idx, plan)] or every
    first = min((use.node for use in uses), key=_position(g))
    g.insert_before(first, [node])
    for use in uses:
        use.node.replace_input_with(use.idx, node.outputs[0])
    assert value.name is not None
    if not value.uses():
        del g.initializers[value.name]


def _left_in_float(node: ir.Node, index: int, plan: Plan) -> bool:
    return graph.node_name(node) in plan.float_nodes and index not in stored_inputs(node)


def _position(g: ir.Graph):  # type: ignore[no-untyped-def]
    order = {id(node): i for i, node in enumerate(g)}
    return lambda node: order[id(node)]


def _drop_clamps(g: ir.Graph) -> None:
    """Remove X -> Relu|Clip -> Q where Q already saturates at the bounds; if it stayed, X would run in float."""
    for node in list(g):
        if node.op_type not in _CLAMPS:
            continue
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        quantizer = graph.only_consumer(result)
        producer = source.producer()
        if producer is None or graph.only_consumer(source) is not node or producer.op_type == "DequantizeLinear":
            continue
        if quantizer is None or quantizer.op_type != "QuantizeLinear" or not _clamps_already(node, quantizer):
            continue
        quantizer.replace_input_with(0, source)
        name = result.name
        g.remove(node, safe=True)
        source.name = name


def _clamps_already(clamp: ir.Node, quantizer: ir.Node) -> bool:
    low, high = clamp_bounds(clamp)
    scale = float(np.asarray(graph.constant(quantizer.inputs[1])))
    zero = np.asarray(graph.constant(quantizer.inputs[2]))
    info = ml_dtypes.iinfo(zero.dtype)
    slack = scale / 2
    bottom, top = (info.min - int(zero)) * scale, (info.max - int(zero)) * scale
    return bool(bottom >= low - slack and top <= high + slack)


def _integer_io(g: ir.Graph, kind: ir.DataType) -> None:
    """Inputs and outputs become the integer tensors themselves, under their old names."""
    for index, value in enumerate(list(g.inputs)):
        quantizer = graph.only_consumer(value)
        if quantizer is not None and quantizer.op_type == "QuantizeLinear":
            _check_io(value, quantizer.outputs[0], kind)
            _replace_io(g, quantizer, value, index)
    for index, value in enumerate(list(g.outputs)):
        node = value.producer()
        if node is not None and node.op_type == "DequantizeLinear":
            stored = node.inputs[0]
            assert stored is not None
            _check_io(value, stored, kind)
            if value.uses():
                other = ir.Value(name=f"{value.name}_dequantized", shape=value.shape, type=value.type)
                real = ir.Node("", "DequantizeLinear", list(node.inputs), outputs=[other], name=f"{value.name}/real")
                g.insert_after(node, [real])
                for use in list(value.uses()):
                    use.node.replace_input_with(use.idx, other)
            g.outputs[index] = stored
            name, value.name = value.name, None
            g.remove(node, safe=True)
            stored.name = name


def _check_io(value: ir.Value, stored: ir.Value, kind: ir.DataType) -> None:
    if stored.dtype is not None and stored.dtype != kind:
        width = stored.dtype.name.lower()
        raise PlanError(f"quantize.io = {kind.name.lower()!r}, but {value.name!r} is {width}", f'io = "{width}"')


def _replace_io(g: ir.Graph, quantizer: ir.Node, value: ir.Value, index: int) -> None:
    stored = quantizer.outputs[0]
    name = value.name
    fresh = ir.Value(name=name, shape=value.shape, type=stored.type)
    g.inputs[index] = fresh
    for use in list(stored.uses()):
        use.node.replace_input_with(use.idx, fresh)
    g.remove(quantizer, safe=True)
