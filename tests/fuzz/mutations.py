"""ONNX files with something wrong in them: bytes turned, cut, repeated; fields of the graph set to other numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from tests.ops.text import graph

__all__ = ["BASES", "mutated"]

_CONV = (
    "(float[N,3,8,8] x, float[4,3,3,3] w, float[4] b, float[64,5] m) => (float[N,5] y)"
    " { c = Conv<pads = [1, 1, 1, 1]>(x, w, b)"
    " r = Relu(c) p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r) s = Constant<value_ints = [0, -1]>()"
    " f = Reshape(p, s) y = Gemm(f, m) }"
)
_TEXTS = {
    "convolution": (_CONV, ("w", "b", "m")),
    "attention": (
        "(float[N,4,8] x, float[8,8] w) => (float[N,4,8] y) { q = MatMul(x, w) n = Shape<start = 0, end = 1>(x)"
        " t = Constant<value_ints = [4, 2, 4]>() s = Concat<axis = 0>(n, t) h = Reshape(q, s)"
        " k = Transpose<perm = [0, 2, 1, 3]>(h) j = Transpose<perm = [0, 2, 3, 1]>(h) a = MatMul(k, j)"
        " p = Softmax<axis = -1>(a) o = MatMul(p, k) u = Transpose<perm = [0, 2, 1, 3]>(o)"
        " z = Constant<value_ints = [0, 4, 8]>() y = Reshape(u, z) }",
        ("w",),
    ),
    "recurrent": (
        "(float[5,N,3] x, float[1,12,3] w, float[1,12,4] r) => (float[5,1,N,4] y)"
        " { y = GRU<hidden_size = 4>(x, w, r) }",
        ("w", "r"),
    ),
    "loop": (
        "(float[2] x) => (float[2] y) { n = Constant<value_int = 3>() c = Constant<value_int = 1>()"
        " d = Cast<to = 9>(c) y = Loop(n, d, x) <body = b (int64 i, bool go, float[2] s) => (bool on, float[2] r)"
        " { on = Identity(go) r = Add(s, x) }> }",
        (),
    ),
    "sizes": (
        "(float[N,2,4,6] x) => (float[N,2,9,8] y) { s = Constant<value_floats = [1.0, 1.0, 2.0, 1.5]>()"
        ' r = Resize<mode = "linear">(x, , s) p = Constant<value_ints = [0, 0, 0, 0, 0, 0, 1, -1]>() q = Pad(r, p)'
        " from = Constant<value_ints = [0]>() to = Constant<value_ints = [8]>() a = Constant<value_ints = [3]>()"
        " y = Slice(q, from, to, a) }",
        (),
    ),
    "quantized": (
        "(float[N,4] x) => (float[N,4] y) { s = Constant<value_float = 0.1>() z = Constant<value = int8 {3}>()"
        " q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = Relu(d) p = QuantizeLinear(r, s, z)"
        " y = DequantizeLinear(p, s, z) }",
        (),
    ),
}
BASES = {name: graph(text, constants=constants).SerializeToString() for name, (text, constants) in _TEXTS.items()}

Rng = np.random.Generator
_NUMBERS = (-(2**63), -(2**31), -7, -1, 0, 1, 2, 5, 1 << 16, 2**31 - 1, 2**31, 10**12, 2**63 - 1)
_REALS = (float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1e-30, 1e30, 3.5)
_OPS = ("Conv", "Gather", "Reshape", "Expand", "Tile", "Range", "ConstantOfShape", "TopK", "Split", "Loop", "If",
        "LSTM", "Nothing", "Concat", "Transpose", "OneHot", "MatMulInteger", "ReduceSum", "Einsum", "")  # fmt: skip


def mutated(data: bytes, seed: int) -> bytes:
    """The file with one thing wrong in it, or two."""
    rng = np.random.default_rng(seed)
    for _ in range(rng.integers(1, 3)):
        edits = _BYTES if rng.random() < 0.4 else _FIELDS
        data = edits[rng.integers(len(edits))](data, rng)
    return data


# -- bytes


def _cut(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(len(data) + 1)]


def _turned(data: bytes, rng: Rng) -> bytes:
    spoilt = bytearray(data)
    for place in rng.integers(len(data), size=rng.integers(1, 6)) if data else ():
        spoilt[place] ^= 1 << rng.integers(8)
    return bytes(spoilt)


def _replaced(data: bytes, rng: Rng) -> bytes:
    start, count = rng.integers(len(data) + 1), rng.integers(1, 30)
    return data[:start] + rng.bytes(count) + data[start + count :]


def _repeated(data: bytes, rng: Rng) -> bytes:
    start, end = sorted(rng.integers(len(data) + 1, size=2))
    return data[:end] + data[start:end] + data[end:]


def _lost(data: bytes, rng: Rng) -> bytes:
    start = rng.integers(len(data) + 1)
    return data[:start] + data[start + rng.integers(1, 30) :]


# -- fields


def _field(edit: Callable[[onnx.ModelProto, Rng], None]) -> Callable[[bytes, Rng], bytes]:
    """The edit on the parsed file; bytes that are none stay as they are."""

    def on_bytes(data: bytes, rng: Rng) -> bytes:
        try:
            model = onnx.load_from_string(data)
        except DecodeError:
            return data
        if model.graph.node:
            edit(model, rng)
        return model.SerializeToString()

    return on_bytes


def _pick(things, rng):  # type: ignore[no-untyped-def]
    return things[rng.integers(len(things))] if len(things) else None


def _operator(model: onnx.ModelProto, rng: Rng) -> None:
    _pick(model.graph.node, rng).op_type = _pick(_OPS, rng)


def _attribute(model: onnx.ModelProto, rng: Rng) -> None:
    found = _pick(_pick(model.graph.node, rng).attribute, rng)
    if found is None:
        return
    if rng.random() < 0.2:
        found.name = _pick(("axis", "kernel_shape", "to", "perm", "body", "nothing"), rng)
    elif found.ints:
        found.ints[rng.integers(len(found.ints))] = _pick(_NUMBERS, rng)
    elif found.floats:
        found.floats[rng.integers(len(found.floats))] = _pick(_REALS, rng)
    elif found.type == onnx.AttributeProto.INT:
        found.i = _pick(_NUMBERS, rng)
    elif found.type == onnx.AttributeProto.TENSOR:
        _spoil(found.t, rng)
    else:
        found.type = int(rng.integers(0, 15))


def _constant(model: onnx.ModelProto, rng: Rng) -> None:
    found = _pick(model.graph.initializer, rng)
    if found is not None:
        _spoil(found, rng)


def _spoil(tensor: onnx.TensorProto, rng: Rng) -> None:
    match rng.integers(4):
        case 0 if tensor.dims:
            tensor.dims[rng.integers(len(tensor.dims))] = _pick(_NUMBERS, rng)
        case 1:
            tensor.data_type = int(rng.integers(0, 30))
        case 2:
            tensor.raw_data = tensor.raw_data[:-3]
        case _:
            tensor.dims.append(_pick(_NUMBERS, rng))


def _wire(model: onnx.ModelProto, rng: Rng) -> None:
    node, names = _pick(model.graph.node, rng), [o for n in model.graph.node for o in n.output]
    names += [v.name for v in [*model.graph.input, *model.graph.initializer]] + ["", "nowhere"]
    if node.input:
        node.input[rng.integers(len(node.input))] = _pick(names, rng)


def _inputs(model: onnx.ModelProto, rng: Rng) -> None:
    node = _pick(model.graph.node, rng)
    if rng.random() < 0.5 and node.input:
        del node.input[rng.integers(len(node.input))]
    else:
        node.input.append(_pick(model.graph.node, rng).output[0] if model.graph.node[0].output else "")


def _output(model: onnx.ModelProto, rng: Rng) -> None:
    node = _pick(model.graph.node, rng)
    if node.output:
        node.output[rng.integers(len(node.output))] = _pick(("", "x", "y", "twice"), rng)


def _removed(model: onnx.ModelProto, rng: Rng) -> None:
    del model.graph.node[rng.integers(len(model.graph.node))]


def _doubled(model: onnx.ModelProto, rng: Rng) -> None:
    model.graph.node.append(_pick(model.graph.node, rng))


def _shape(model: onnx.ModelProto, rng: Rng) -> None:
    value = _pick([*model.graph.input, *model.graph.output], rng)
    if value is None:
        return
    sizes = value.type.tensor_type.shape.dim
    if rng.random() < 0.3:
        value.type.tensor_type.elem_type = int(rng.integers(0, 30))
    elif sizes and rng.random() < 0.7:
        sizes[rng.integers(len(sizes))].dim_value = _pick(_NUMBERS, rng)
    elif sizes:
        sizes[rng.integers(len(sizes))].dim_param = "M"
    else:
        value.type.Clear()


def _version(model: onnx.ModelProto, rng: Rng) -> None:
    if model.opset_import:
        model.opset_import[0].version = _pick((-1, 0, 1, 6, 7, 9, 12, 13, 18, 99, 2**31), rng)


_BYTES = (_cut, _turned, _replaced, _repeated, _lost)
_FIELDS = tuple(
    _field(edit)
    for edit in (_operator, _attribute, _attribute, _constant, _wire, _inputs, _output, _removed, _doubled, _shape,
                 _version)
)  # fmt: skip
