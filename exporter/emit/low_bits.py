"""How each planned weight lies in an ONNX file, and which operator reads it.

Where weights have fewer than 8 bits, or their node runs in float, ONNX Runtime 1.32 has a fast form and several that
load but run in float, repeat the dequantization in every run, or do not load at all. Only the fast forms are written:

integer node                int8 out of the packed bits -> DequantizeLinear, for QLinearConv, QGemm, QLinearMatMul
dynamic, groups             MatMulNBits with accuracy_level 4 (it quantizes its input to int8 itself)
dynamic, one scale a column DynamicQuantizeLinear -> MatMulInteger, which ORT fuses to DynamicQuantizeMatMul
LSTM, one scale a gate row  DynamicQuantizeLSTM (see exporter.emit._lstm); of few units, as a GRU or RNN: like float
float                       Cast and Mul, folded to a float weight at load: small in the file only
look-up table               GatherBlockQuantized; with one scale a row, Gather of integers and scales

Decision note 0007 has the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph, grid
from exporter.emit import unpack
from exporter.emit._lstm import LEAST_UNITS, dynamic_lstm, turned
from exporter.ops.recurrent_weights import RECURRENT
from exporter.types import Codebook, Grain, PerChannel, PerGroup, PerTensor, Plan, QParams

__all__ = ["place_weights"]

_MICROSOFT = "com.microsoft"
_INT8_DYNAMIC = 4  # accuracy_level of MatMulNBits
_FASTEST_2_BITS = 64  # MatMulNBits of 2 bits is slower than of 4 below this block size
_LEAST_BLOCK, _MOST_BLOCK_2_BITS = 16, 256


@dataclass(frozen=True, slots=True)
class _Weight:
    """One planned weight as it lies in the QDQ graph. integers: integer - zero_point."""

    name: str
    qparams: QParams
    integers: npt.NDArray[np.int8]
    dequantize: ir.Node


@dataclass(frozen=True, slots=True)
class _Writing:
    """The graph on its way, and what several readers share.

    quantized  inputs, by name
    blocks     bytes, scales and zero points by weight and layout
    stored     what a form keeps of a weight, by the weight's name and the form's
    """

    model: ir.Model
    plan: Plan
    quantized: dict[str | None, list[ir.Value]] = field(default_factory=dict)
    blocks: dict[tuple[str, int, tuple[int, ...]], list[ir.Value | None]] = field(default_factory=dict)
    stored: dict[tuple[str, str], list[ir.Value]] = field(default_factory=dict)


def place_weights(model: ir.Model, plan: Plan) -> None:
    """Rewrite, in place, whatever reads a weight of the plan."""
    writing = _Writing(model, plan)
    for tensor in plan.tensors.values():
        if tensor.role != "weight" or tensor.qparams is None or tensor.qparams.scheme.bits > 8:
            continue  # or an operand beside int16 activations, which stays as it is
        stored = model.graph.initializers.get(f"{tensor.name}_quantized")
        array = graph.constant(stored)
        if stored is None or array is None:
            continue
        (dequantize,) = graph.consumers(stored)
        weight = _Weight(tensor.name, tensor.qparams, array.astype(np.int8, copy=False), dequantize)
        for use in list(dequantize.outputs[0].uses()):
            _place(writing, weight, use.node, use.idx)
        if dequantize.outputs[0].uses():
            _store_for_integers(model, weight, stored)
        else:
            model.graph.remove(dequantize, safe=True)  # its constants go with the other unused ones


def _place(writing: _Writing, weight: _Weight, node: ir.Node, index: int) -> None:
    """One reader that is not an integer node; the others keep the DequantizeLinear."""
    plan, name = writing.plan, graph.node_name(node)
    grain = weight.qparams.scheme.grain
    if node.op_type == "Gather" and index == 0 and name in plan.float_nodes:
        _look_up(writing, weight, node)
    elif name in plan.dynamic_nodes and node.op_type in RECURRENT:
        both = [each for value in node.inputs[1:3] if (each := _behind(writing, value)) is not None]
        if node.op_type == "LSTM" and len(both) == 2 and both[1].integers.shape[2] >= LEAST_UNITS:
            _lstm(writing, node, both)
        else:
            _in_float(writing, weight, node, index)
    elif name in plan.dynamic_nodes:
        block = grain.size if isinstance(grain, PerGroup) else 0
        if block >= _LEAST_BLOCK and block & (block - 1) == 0:
            _matmul_nbits(writing, weight, node, grain)  # type: ignore[arg-type]
        elif isinstance(grain, PerGroup):
            _in_float(writing, weight, node, index)
        else:
            _matmul_integer(writing, weight, node)
    elif name in plan.float_nodes:
        _in_float(writing, weight, node, index)


def _store_for_integers(model: ir.Model, weight: _Weight, stored: ir.Value) -> None:
    if weight.qparams.scheme.bits == 8 and not isinstance(weight.qparams.scheme, Codebook):
        return
    name = stored.name
    assert name is not None
    del model.graph.initializers[name]  # the unpacked value takes over the name
    value, nodes = unpack.store(model, name, weight.integers, weight.qparams)
    model.graph.insert_before(weight.dequantize, nodes)
    weight.dequantize.replace_input_with(0, value)


# -- nodes in float


def _in_float(writing: _Writing, weight: _Weight, node: ir.Node, index: int) -> None:
    """(integers - zero point) * scale: unlike a DequantizeLinear, ORT folds it once, at load."""
    key = weight.name, "float"
    if key not in writing.stored:
        writing.stored[key] = [_made_float(writing.model, weight)]
    node.replace_input_with(index, writing.stored[key][0])


def _made_float(model: ir.Model, weight: _Weight) -> ir.Value:
    g, q, shape = model.graph, weight.qparams, weight.integers.shape
    name = graph.fresh_name(g, f"{weight.name}_float")
    zero = None
    if isinstance(q.scheme.grain, PerGroup):
        integers, nodes = unpack.store(model, f"{name}_integers", *_without_zero_point(weight))
        nodes.append(unpack.spread(model, f"{name}_scale", q.scale, q.scheme.grain, shape))
        scale = nodes[-1].outputs[0]
        if q.zero_point.any():
            numbers = q.zero_point.astype(np.int8)
            nodes.append(unpack.spread(model, f"{name}_zero_point", numbers, q.scheme.grain, shape))
            zero = nodes[-1].outputs[0]
    else:
        integers, nodes = unpack.store(model, f"{name}_integers", weight.integers, q)
        scale = graph.add_initializer(g, f"{name}_scale", grid.spread(q.scale, shape, q.scheme.grain))
    real = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
    nodes += _real(integers, scale, real, name, zero)
    g.insert_before(weight.dequantize, nodes)  # it stands before the first reader
    return real


def _real(
    integers: ir.Value, scale: ir.Value, result: ir.Value, name: str, zero: ir.Value | None = None
) -> list[ir.Node]:
    to = ir.AttrInt64("to", ir.DataType.FLOAT.value)
    nodes = [ir.Node("", "Cast", [integers], [to], outputs=[ir.Value(name=f"{name}_wide")], name=f"{name}/cast")]
    if zero is not None:
        pair = [nodes[-1].outputs[0], zero]
        nodes.append(ir.Node("", "Sub", pair, outputs=[ir.Value(name=f"{name}_centred")], name=f"{name}/centre"))
    return [*nodes, ir.Node("", "Mul", [nodes[-1].outputs[0], scale], outputs=[result], name=f"{name}/scale")]


# -- linear layers whose input becomes int8 in each run


def _turned(weight: _Weight, node: ir.Node, *, rows: bool) -> _Weight:
    """The weight of a linear layer as [out, in] (``rows``) or [in, out]."""
    is_rows = node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
    return weight if is_rows == rows else _transposed(weight)


def _transposed(weight: _Weight) -> _Weight:
    q, grain = weight.qparams, weight.qparams.scheme.grain
    turned: Grain = grain
    scale, zero = q.scale, q.zero_point
    match grain:
        case PerChannel(axis):
            turned = PerChannel(1 - axis % 2)
        case PerGroup(axis, size):
            turned, scale, zero = PerGroup(1 - axis % 2, size), scale.T, zero.T
    qparams = QParams(replace(q.scheme, grain=turned), np.ascontiguousarray(scale), np.ascontiguousarray(zero))
    return replace(weight, qparams=qparams, integers=np.ascontiguousarray(weight.integers.T))


def _kept_once(writing: _Writing, weight: _Weight, form: str, scale: npt.NDArray[np.float32]) -> list[ir.Value]:
    """Its integers and this scale, for every reader that wants them in this form."""
    key = weight.name, form
    if key not in writing.stored:
        g, stem = writing.model.graph, f"{weight.name}_{form.partition(',')[0]}"
        name = graph.fresh_name(g, f"{stem}_integers")
        integers, made = unpack.store(writing.model, name, weight.integers, weight.qparams)
        g.insert_before(weight.dequantize, made)
        scales = graph.add_initializer(g, graph.fresh_name(g, f"{stem}_scale"), scale)
        writing.stored[key] = [integers, scales]
    return writing.stored[key]


def _matmul_integer(writing: _Writing, weight: _Weight, node: ir.Node) -> None:
    quantized_inputs = writing.quantized
    g, source, result = writing.model.graph, node.inputs[0], node.outputs[0]
    assert source is not None
    turned = _turned(weight, node, rows=False)
    form = "dynamic" if turned is weight else "dynamic, turned"
    integers, weight_scale = _kept_once(writing, turned, form, turned.qparams.scale.reshape(-1))
    if source.name not in quantized_inputs:
        quantized_inputs[source.name] = _quantized_anew(g, source)
    quantized, scale, zero = quantized_inputs[source.name]
    name = f"{result.name}_dynamic"
    product, wide, both, real = (ir.Value(name=f"{name}_{tag}") for tag in ("product", "wide", "scales", "real"))
    to = ir.AttrInt64("to", ir.DataType.FLOAT.value)
    nodes = [
        ir.Node("", "MatMulInteger", [quantized, integers, zero], outputs=[product], name=f"{name}/matmul"),
        ir.Node("", "Cast", [product], [to], outputs=[wide], name=f"{name}/cast"),
        ir.Node("", "Mul", [scale, weight_scale], outputs=[both], name=f"{name}/scales"),
        ir.Node("", "Mul", [wide, both], outputs=[real], name=f"{name}/rescale"),
    ]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        biased = ir.Value(name=f"{name}_biased")
        nodes.append(ir.Node("", "Add", [real, node.inputs[2]], outputs=[biased], name=f"{name}/bias"))
    graph.replace(g, [node], nodes)


def _behind(writing: _Writing, value: ir.Value | None) -> _Weight | None:
    """The planned weight that this DequantizeLinear makes."""
    maker = None if value is None else value.producer()
    stored = graph.stored(value)
    array, name = graph.constant(stored), "" if stored is None else (stored.name or "").removesuffix("_quantized")
    tensor = writing.plan.tensors.get(name)
    if maker is None or array is None or tensor is None or tensor.qparams is None:
        return None
    return _Weight(name, tensor.qparams, array.astype(np.int8, copy=False), maker)


def _lstm(writing: _Writing, node: ir.Node, both: Sequence[_Weight]) -> None:
    model, g, made, scales, values = writing.model, writing.model.graph, [], [], []
    for weight in both:
        grain: Grain = PerChannel(2) if isinstance(weight.qparams.scheme.grain, PerChannel) else PerTensor()
        qparams = replace(weight.qparams, scheme=replace(weight.qparams.scheme, grain=grain))
        name = graph.fresh_name(g, f"{weight.name}_dynamic_integers")
        value, nodes = unpack.store(model, name, turned(weight.integers), qparams)
        made += nodes
        values.append(value)
        scales.append(weight.qparams.scale)
    new = dynamic_lstm(g, node, (values[0], values[1]), (scales[0], scales[1]))
    g.opset_imports[_MICROSOFT] = 1
    g.insert_before(node, [*made, new])
    for old, fresh in zip(node.outputs, new.outputs, strict=True):
        old.replace_all_uses_with(fresh, replace_graph_outputs=True)
        old.name = None
    g.remove(node, safe=True)


def _quantized_anew(g: ir.Graph, source: ir.Value) -> list[ir.Value]:
    outputs = [ir.Value(name=f"{source.name}_{tag}") for tag in ("uint8", "uint8_scale", "uint8_zero")]
    node = ir.Node("", "DynamicQuantizeLinear", [source], outputs=outputs, name=f"{source.name}/quantize_anew")
    producer = source.producer()
    if producer is None:
        g.insert_before(next(iter(g)), [node])
    else:
        g.insert_after(producer, [node])
    return outputs


def _matmul_nbits(writing: _Writing, weight: _Weight, node: ir.Node, grain: PerGroup) -> None:
    g = writing.model.graph
    turned = _turned(weight, node, rows=True)
    columns, depth = turned.integers.shape
    name = graph.fresh_name(g, f"{weight.name}_nbits")
    bits = _container_bits(turned.qparams, grain.size)
    inputs: list[ir.Value | None] = [node.inputs[0], *_blocks(writing, name, turned, bits)]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        inputs += [None] * (5 - len(inputs)) + [bias]
    numbers = {"K": depth, "N": columns, "bits": bits, "block_size": grain.size, "accuracy_level": _INT8_DYNAMIC}
    attributes = [ir.AttrInt64(key, value) for key, value in numbers.items()]
    made = ir.Node(_MICROSOFT, "MatMulNBits", inputs, attributes, outputs=[ir.Value()], name=graph.node_name(node))
    g.opset_imports[_MICROSOFT] = 1
    graph.replace(g, [node], [made])


def _container_bits(q: QParams, block: int) -> int:
    """Width at which the kernel computes: 2, 4 or 8, the fewest that are fast."""
    if isinstance(q.scheme, Codebook):
        need = next(c for c in (2, 4, 8) if -(1 << (c - 1)) <= q.scheme.qmin and q.scheme.qmax < 1 << (c - 1))
    else:
        need = next(c for c in (2, 4, 8) if q.scheme.bits <= c)
    return 4 if need == 2 and not _FASTEST_2_BITS <= block <= _MOST_BLOCK_2_BITS else need


def _blocks(writing: _Writing, name: str, weight: _Weight, bits: int) -> list[ir.Value | None]:
    """Bytes u8[rows, blocks, block * bits / 8], scales f32[rows, blocks] and zero points, of groups along axis 1."""
    key = weight.name, bits, weight.integers.shape
    if key in writing.blocks:
        return writing.blocks[key]
    model, q = writing.model, weight.qparams
    g, grain = model.graph, q.scheme.grain
    assert isinstance(grain, PerGroup)
    rows, groups = q.scale.shape
    padded = np.pad(weight.integers, [(0, 0), (0, groups * grain.size - weight.integers.shape[1])])
    whole = replace(weight, integers=padded, qparams=q)
    shape = (rows, groups, grain.size * bits // 8)
    half = 1 << (bits - 1)
    if isinstance(q.scheme, Codebook) or q.scheme.bits != bits:
        integers, nodes = unpack.store(model, f"{name}_integers", *_without_zero_point(whole))
        nodes.append(unpack.container(model, f"{name}_bytes", integers, bits, shape))
        g.insert_before(next(iter(g)), nodes)  # before every reader that may share it
        data = nodes[-1].outputs[0]
    else:
        own = padded + grid.spread(q.zero_point, padded.shape, grain) if q.zero_point.any() else padded
        codes = own.astype(np.uint8) + np.uint8(half)  # integer + half, modulo 256
        data = graph.add_initializer(g, f"{name}_bytes", grid.pack_bits(codes, bits).reshape(shape))
    found: list[ir.Value | None] = [data, graph.add_initializer(g, f"{name}_scale", q.scale)]
    if q.zero_point.any():
        points = (q.zero_point + half).astype(np.uint8)
        packed = np.stack([grid.pack_bits(row, bits) for row in points])
        found.append(graph.add_initializer(g, f"{name}_zero_point", packed))
    writing.blocks[key] = found
    return found


def _without_zero_point(weight: _Weight) -> tuple[npt.NDArray[np.int8], QParams]:
    """Stored as the plan's own integers: MatMulNBits takes the zero points apart."""
    q = weight.qparams
    own = (weight.integers + grid.spread(q.zero_point, weight.integers.shape, q.scheme.grain)).astype(np.int8)
    return own, QParams(q.scheme, q.scale, np.zeros_like(q.zero_point))


# -- look-up tables


def _look_up(writing: _Writing, weight: _Weight, node: ir.Node) -> None:
    g, grain, ids, result = writing.model.graph, weight.qparams.scheme.grain, node.inputs[1], node.outputs[0]
    if isinstance(grain, PerGroup):
        if grain.axis % 2 == 1 and weight.integers.shape[1] % grain.size == 0 and grain.size & (grain.size - 1) == 0:
            _look_up_blocks(writing, weight, node, grain)
        else:
            _in_float(writing, weight, node, 0)
        return
    numbers = weight.qparams.scale if isinstance(grain, PerTensor) else weight.qparams.scale.reshape(-1, 1)
    integers, scale = _kept_once(writing, weight, "table", numbers)
    name = f"{result.name}_looked_up"
    picked = ir.Value(name=f"{name}_integers")
    nodes = [ir.Node("", "Gather", [integers, ids], outputs=[picked], name=graph.node_name(node))]
    if not isinstance(grain, PerTensor):
        own = ir.Value(name=f"{name}_scale")
        nodes.append(ir.Node("", "Gather", [scale, ids], outputs=[own], name=f"{name}/scales"))
        scale = own
    nodes += _real(picked, scale, ir.Value(name=f"{name}_real"), name)
    graph.replace(g, [node], nodes)


def _look_up_blocks(writing: _Writing, weight: _Weight, node: ir.Node, grain: PerGroup) -> None:
    g, bits, key = writing.model.graph, _container_bits(weight.qparams, grain.size), (weight.name, "rows")
    name = f"{weight.name}_table"
    data, scale, *zero = _blocks(writing, name, weight, bits)
    if key not in writing.stored:
        flat = ir.Value(name=graph.fresh_name(g, f"{name}_rows"))
        shape = graph.add_initializer(g, graph.fresh_name(g, f"{name}_shape"), np.array([len(weight.integers), -1]))
        g.insert_before(weight.dequantize, [ir.Node("", "Reshape", [data, shape], outputs=[flat], name=f"{name}/rows")])
        writing.stored[key] = [flat]
    numbers = {"bits": bits, "block_size": grain.size, "gather_axis": 0, "quantize_axis": 1}
    attributes = [ir.AttrInt64(key, value) for key, value in numbers.items()]
    inputs = [writing.stored[key][0], node.inputs[1], scale, *zero]
    look = ir.Node(_MICROSOFT, "GatherBlockQuantized", inputs, attributes, outputs=[ir.Value()])
    look.name = graph.node_name(node)
    g.opset_imports[_MICROSOFT] = 1
    graph.replace(g, [node], [look])
