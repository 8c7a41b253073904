"""Weights of few bits inside an ONNX file: packed initializers and the functions that unpack them.

A runtime inlines the functions and folds them into plain initializers when it loads the file: the file is small, and
what runs is the integer kernel of 8 bits (or MatMulNBits). They need opset 21 and no integer type narrower than uint8.

The functions live in the domain ``kbit`` and are written once for each width that a model has:

Unpack{k}(blob, offset) <shape>  -> int8    codes of k bits (layout: grid.pack_planes) minus offset
Lookup{k}(blob) <shape, levels>  -> int8    levels[code]
Container{c}(integers) <shape>   -> uint8   integers + 2^(c-1), in c bits, the lowest first, as MatMulNBits reads them
Spread(numbers) <axis, after, blocks, whole, length> -> float32  a group's number for each of its values
"""

from __future__ import annotations

import functools

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx.parser
import onnx_ir as ir

from exporter import graph, grid
from exporter.types import Codebook, PerGroup, QParams

__all__ = ["DOMAIN", "container", "read_packed", "spread", "store"]

DOMAIN = "kbit"
_OPSET = 21
_LEAST = 128  # bytes that packing has to save; a node and its attributes cost nearly as many


def store(model: ir.Model, name: str, integers: npt.NDArray[np.int8], q: QParams) -> tuple[ir.Value, list[ir.Node]]:
    """The int8 value ``name`` out of the fewest bytes, and the nodes that make it (none when it is an initializer).

    integers  integer - zero_point, as ``apply`` puts them into the graph; one scheme value for each
    """
    scheme = q.scheme
    if integers.size - -(-integers.size * scheme.bits // 8) < _LEAST:
        return graph.add_initializer(model.graph, name, integers), []
    made = ir.Value(name=name, shape=ir.Shape(integers.shape), type=ir.TensorType(ir.DataType.INT8))
    if scheme.bits == 4 and not isinstance(scheme, Codebook) and not q.zero_point.any():
        packed = graph.add_initializer(model.graph, f"{name}_packed", integers.astype(ml_dtypes.int4))
        to = ir.AttrInt64("to", ir.DataType.INT8.value)
        return made, [ir.Node("", "Cast", [packed], [to], outputs=[made], name=f"{name}/unpack")]
    zero = grid.spread(q.zero_point, integers.shape, scheme.grain)
    codes = grid.codes(integers.astype(np.int32) + zero, scheme)
    packed = graph.add_initializer(model.graph, f"{name}_packed", grid.pack_planes(codes, scheme.bits))
    shape = ir.AttrInt64s("shape", list(integers.shape))
    if isinstance(scheme, Codebook):
        _declare(model, f"Lookup{scheme.bits}")
        attributes = [shape, ir.AttrInt64s("levels", list(scheme.levels))]
        node = ir.Node(DOMAIN, f"Lookup{scheme.bits}", [packed], attributes, outputs=[made], name=f"{name}/unpack")
        return made, [node]
    _declare(model, f"Unpack{scheme.bits}")
    away = (zero - scheme.qmin).astype(np.uint8)
    offset = _offset(model.graph, f"{name}_offset", away)
    node = ir.Node(DOMAIN, f"Unpack{scheme.bits}", [packed, offset], [shape], outputs=[made], name=f"{name}/unpack")
    return made, [node]


def container(model: ir.Model, name: str, integers: ir.Value, bits: int, shape: tuple[int, ...]) -> ir.Node:
    """The node that turns int8 integers into the bytes that MatMulNBits and GatherBlockQuantized read, as ``name``."""
    _declare(model, f"Container{bits}")
    made = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.UINT8))
    attributes = [ir.AttrInt64s("shape", list(shape))]
    return ir.Node(DOMAIN, f"Container{bits}", [integers], attributes, outputs=[made], name=f"{name}/pack")


def spread(
    model: ir.Model, name: str, numbers: npt.NDArray[np.float32 | np.int8], grain: PerGroup, shape: tuple[int, ...]
) -> ir.Node:
    """The node that turns numbers of groups (shape: grid.scale_shape) into one for each value of ``shape``."""
    _declare(model, "Spread")
    groups = graph.add_initializer(model.graph, f"{name}_of_groups", np.ascontiguousarray(numbers))
    axis, sizes = grain.axis % len(shape), list(numbers.shape)
    blocks = [*sizes[: axis + 1], grain.size, *sizes[axis + 1 :]]
    whole = [*sizes[:axis], sizes[axis] * grain.size, *sizes[axis + 1 :]]
    attributes = [ir.AttrInt64s("axis", [axis]), ir.AttrInt64s("after", [axis + 1]), ir.AttrInt64s("blocks", blocks)]
    attributes += [ir.AttrInt64s("whole", whole), ir.AttrInt64s("length", [shape[axis]])]
    made = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
    return ir.Node(DOMAIN, "Spread", [groups], attributes, outputs=[made], name=f"{name}/spread")


def read_packed(node: ir.Node) -> int | None:
    """Bits that each value takes in the file behind a node that ``store`` made; None for any other node."""
    if node.domain == DOMAIN and node.op_type.startswith(("Unpack", "Lookup")):
        return int(node.op_type[6:])
    return None


def _offset(g: ir.Graph, name: str, away: npt.NDArray[np.uint8]) -> ir.Value:
    """Many weights share the one number of a symmetric scheme."""
    if np.unique(away).size > 1:
        return graph.add_initializer(g, name, away)
    shared = f"kbit_offset_{int(away.flat[0])}"
    known = g.initializers.get(shared)
    return known if known is not None else graph.add_initializer(g, shared, np.asarray(away.flat[0], np.uint8))


def _declare(model: ir.Model, name: str) -> None:
    found = _function(name)
    found.opset_imports[""] = max(_OPSET, model.graph.opset_imports.get("", _OPSET))  # nothing used here has changed
    if found.identifier() not in model.functions:
        model.functions[found.identifier()] = found
        model.graph.opset_imports[DOMAIN] = 1


def _function(name: str) -> ir.Function:
    kind = name.rstrip("12345678")
    makers = {"Unpack": _unpack_text, "Lookup": _lookup_text, "Container": _container_text}
    text = makers[kind](int(name[-1])) if kind in makers else _SPREAD
    return ir.serde.deserialize_function(_parsed(text))


@functools.cache
def _parsed(text: str) -> onnx.FunctionProto:
    return onnx.parser.parse_function(text)


_HEAD = f'<domain: "{DOMAIN}", opset_import: ["" : {_OPSET}]>\n'


_SPREAD = (
    _HEAD
    + """Spread <axis, after, blocks, whole, length> (numbers) => (spread) {
    place = Constant<value_ints: ints = @after>()
    column = Unsqueeze(numbers, place)
    wide = Constant<value_ints: ints = @blocks>()
    repeated = Expand(column, wide)
    flat = Constant<value_ints: ints = @whole>()
    joined = Reshape(repeated, flat)
    from = Constant<value_ints=[0]>()
    to = Constant<value_ints: ints = @length>()
    along = Constant<value_ints: ints = @axis>()
    cut = Slice(joined, from, to, along)
    spread = Cast<to=1>(cut)
}"""
)


def _codes_text(bits: int) -> str:
    """Nodes that end in ``codes``, uint8 of the attribute ``shape``."""
    lines, whole, start, shift = ["minus = Constant<value_ints=[-1]>()", "one = Constant<value_ints=[1]>()"], "", 0, 0
    for width in grid.plane_widths(bits):
        shifts = ",".join(map(str, range(0, 8, width)))
        lines += [
            f"first{width} = Constant<value_ints=[{start}]>()",
            f"last{width} = Constant<value_ints=[{start + width}]>()",
            f"bytes{width} = Slice(blob, first{width}, last{width}, one)",
            f"column{width} = Unsqueeze(bytes{width}, minus)",
            f"shifts{width} = Constant<value=uint8[{8 // width}] {{{shifts}}}>()",
            f"mask{width} = Constant<value=uint8 {{{(1 << width) - 1}}}>()",
            f'moved{width} = BitShift<direction="RIGHT">(column{width}, shifts{width})',
            f"kept{width} = BitwiseAnd(moved{width}, mask{width})",
            f"flat{width} = Reshape(kept{width}, minus)",
        ]
        if whole:
            lines += [
                f"up{width} = Constant<value=uint8 {{{shift}}}>()",
                f'high{width} = BitShift<direction="LEFT">(flat{width}, up{width})',
                f"all{width} = BitwiseOr({whole}, high{width})",
            ]
        whole = f"all{width}" if whole else f"flat{width}"
        start, shift = start + width, shift + width
    lines += [
        "sizes = Constant<value_ints: ints = @shape>()",
        "count = ReduceProd<keepdims=1>(sizes)",
        "nought = Constant<value_ints=[0]>()",
        f"cut = Slice({whole}, nought, count)",
        "codes = Reshape(cut, sizes)",
    ]
    return "\n".join(lines)


def _unpack_text(bits: int) -> str:
    end = "wide = Cast<to=6>(codes)\naway = Cast<to=6>(offset)\nsigned = Sub(wide, away)\nintegers = Cast<to=3>(signed)"
    return f"{_HEAD}Unpack{bits} <shape> (blob, offset) => (integers) {{\n{_codes_text(bits)}\n{end}\n}}"


def _lookup_text(bits: int) -> str:
    end = (
        "places = Cast<to=6>(codes)\ntable = Constant<value_ints: ints = @levels>()\n"
        "narrow = Cast<to=3>(table)\nintegers = Gather(narrow, places)"
    )
    return f"{_HEAD}Lookup{bits} <shape, levels> (blob) => (integers) {{\n{_codes_text(bits)}\n{end}\n}}"


def _container_text(bits: int) -> str:
    lines = [
        "wide = Cast<to=6>(integers)",
        f"half = Constant<value=int32 {{{1 << (bits - 1)}}}>()",
        "raised = Add(wide, half)",
        "codes = Cast<to=2>(raised)",
        f"row = Constant<value_ints=[-1, {8 // bits}]>()",
        "rows = Reshape(codes, row)",
        f"shifts = Constant<value=uint8[{8 // bits}] {{{','.join(map(str, range(0, 8, bits)))}}}>()",
        'placed = BitShift<direction="LEFT">(rows, shifts)',
        "axis = Constant<value_ints=[1]>()",
    ]
    part = ""
    for i in range(8 // bits):
        lines += [
            f"from{i} = Constant<value_ints=[{i}]>()",
            f"to{i} = Constant<value_ints=[{i + 1}]>()",
            f"part{i} = Slice(placed, from{i}, to{i}, axis)",
        ]
        if part:
            lines.append(f"sum{i} = BitwiseOr({part}, part{i})")
        part = f"sum{i}" if part else "part0"
    lines += ["sizes = Constant<value_ints: ints = @shape>()", f"bytes = Reshape({part}, sizes)"]
    body = "\n".join(lines)
    return f"{_HEAD}Container{bits} <shape> (integers) => (bytes) {{\n{body}\n}}"
