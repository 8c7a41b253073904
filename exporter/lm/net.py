"""A graph under construction: the parts of a decoder that are the same for every runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.lm.blueprint import Blueprint
from exporter.lm.matrices import Matrices

__all__ = ["OPSET", "Net", "sizes"]

OPSET = 23  # RMSNormalization
_IR_VERSION = 11
_FLOAT = ir.DataType.FLOAT
Shape = Sequence[int | str]


class Net:
    """Nodes and values are named after the part of the model that they are: layers.0.mlp.down."""

    def __init__(self, plan: Blueprint, matrices: Matrices) -> None:
        self.plan, self.matrices = plan, matrices
        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET, "com.microsoft": 1})
        self._integers: dict[tuple[int, ...], ir.Value] = {}

    # -- plumbing

    def input(self, name: str, dtype: ir.DataType, shape: Shape) -> ir.Value:
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self.graph.inputs.append(value)
        return value

    def output(self, name: str, value: ir.Value, shape: Shape) -> None:
        value.name, value.shape = name, ir.Shape(shape)
        self.graph.outputs.append(value)

    def model(self, name: str) -> ir.Model:
        self.graph.name = name
        return ir.Model(self.graph, ir_version=_IR_VERSION, producer_name="kbit")

    def constant(self, name: str, array: npt.NDArray[Any] | ir.TensorProtocol) -> ir.Value:
        """An initializer; one that is there already under this name is used again."""
        found = self.graph.initializers.get(name)
        if found is not None:
            return found
        tensor = ir.Tensor(np.ascontiguousarray(array), name=name) if isinstance(array, np.ndarray) else array
        shape = ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def ints(self, numbers: Sequence[int]) -> ir.Value:
        """i64 constants, shared."""
        key = tuple(numbers)
        if key not in self._integers:
            self._integers[key] = self.constant(f"ints.{'_'.join(map(str, key))}", np.array(key, np.int64))
        return self._integers[key]

    def ops(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        outputs: Sequence[tuple[str, Shape]],
        dtype: ir.DataType = _FLOAT,
        domain: str = "",
        **attributes: Any,
    ) -> list[ir.Value]:
        """Append a node with several outputs (name, shape)."""
        values = [ir.Value(name=n, shape=ir.Shape(shape), type=ir.TensorType(dtype)) for n, shape in outputs]
        plain = [ir.convenience.convert_attributes({k: v})[0] for k, v in attributes.items()]
        self.graph.append(ir.Node(domain, op, inputs, plain, outputs=values, name=name))
        return values

    def op(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        shape: Shape,
        dtype: ir.DataType = _FLOAT,
        **attributes: Any,
    ) -> ir.Value:
        """Append a node with one output, called as the node."""
        return self.ops(op, inputs, name, [(name, shape)], dtype, **attributes)[0]

    def cast(self, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
        return self.op("Cast", [value], name, _shape(value), dtype, to=int(dtype))

    def reshape(self, value: ir.Value, wanted: Sequence[int], name: str, shape: Shape) -> ir.Value:
        """``wanted`` as Reshape takes it: 0 keeps a dimension."""
        return self.op("Reshape", [value, self.ints(wanted)], name, shape)

    def split(self, value: ir.Value, widths: Sequence[int], lead: Shape, names: Sequence[str]) -> list[ir.Value]:
        """Along the last axis."""
        outputs = [(name, (*lead, width)) for name, width in zip(names, widths, strict=True)]
        return self.ops("Split", [value, self.ints(widths)], f"{names[0]}/split", outputs, axis=-1)

    # -- parts of a decoder

    def linear(self, x: ir.Value, weight: ir.LazyTensor, bias: ir.LazyTensor | None, name: str) -> ir.Value:
        """x times a matrix [in, out], and a bias."""
        shape = (*_shape(x)[:-1], sizes(weight.shape)[1])
        stem = name if bias is None else f"{name}/product"
        result = self.op("MatMul", [x, self.constant(f"{name}.weight", weight)], stem, shape)
        if bias is None:
            return result
        return self.op("Add", [result, self.constant(f"{name}.bias", bias)], name, shape)

    def norm(self, x: ir.Value, name: str, key: str) -> ir.Value:
        """The family's norm over the last axis; ``key`` is its name in the checkpoint."""
        weight, bias = self.matrices.norm(name, key)
        inputs = [x, self.constant(f"{name}.weight", weight)]
        if self.plan.family.norm == "layer" and bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias))
        kind = "RMSNormalization" if self.plan.family.norm == "rms" else "LayerNormalization"
        return self.op(kind, inputs, name, _shape(x), axis=-1, epsilon=self.plan.epsilon)

    def head_norm(self, x: ir.Value, name: str, key: str) -> ir.Value:
        """RMSNorm of each head, [..., padded] (see Matrices.head_norm for the padding)."""
        heads = self.plan.heads
        weight = self.constant(f"{name}.weight", self.matrices.head_norm(name, key))
        epsilon = self.plan.epsilon * heads.size / heads.padded
        return self.op("RMSNormalization", [x, weight], f"{name}/norm", _shape(x), axis=-1, epsilon=epsilon)

    def embed(self, ids: ir.Value, places: ir.Value | None) -> ir.Value:
        """Token embeddings, scaled, with learned positions added where the family has them."""
        shape = (*_shape(ids), self.plan.hidden)
        states = self.op("Gather", [self.constant("embed.weight", self.matrices.embed()), ids], "embed", shape, axis=0)
        if self.plan.embed_scale != 1.0:
            factor = self.constant("embed.scale", np.array(self.plan.embed_scale, np.float32))
            states = self.op("Mul", [states, factor], "embed/scaled", shape)
        if places is not None:
            table = self.constant("positions.weight", self.matrices.positions())
            added = self.op("Gather", [table, places], "positions", shape, axis=0)
            states = self.op("Add", [states, added], "embed/placed", shape)
        return states

    def block(self, layer: int, states: ir.Value, attention: Callable[[ir.Value], ir.Value]) -> ir.Value:
        """One layer: norm, attention, norm, feed-forward, each added to what came in."""
        family, stem = self.plan.family, f"layers.{layer}"
        normal = self.norm(states, f"{stem}.attention_norm", family.attention_norm.format(layer))
        attended = attention(normal)
        if family.after_attention:
            attended = self.norm(attended, f"{stem}.after_attention", family.after_attention.format(layer))
        if family.parallel:
            if family.mlp_norm:
                normal = self.norm(states, f"{stem}.mlp_norm", family.mlp_norm.format(layer))
            both = self.op("Add", [attended, self.feed_forward(layer, normal)], f"{stem}.both", _shape(states))
            return self.op("Add", [both, states], f"{stem}.out", _shape(states))
        states = self.op("Add", [states, attended], f"{stem}.middle", _shape(states))
        normal = self.norm(states, f"{stem}.mlp_norm", family.mlp_norm.format(layer))
        fed = self.feed_forward(layer, normal)
        if family.after_mlp:
            fed = self.norm(fed, f"{stem}.after_mlp", family.after_mlp.format(layer))
        return self.op("Add", [states, fed], f"{stem}.out", _shape(states))

    def feed_forward(self, layer: int, x: ir.Value) -> ir.Value:
        stem = f"layers.{layer}.mlp"
        up = self.linear(x, *self.matrices.feed_forward(layer, "up"), f"{stem}.up")
        if self.plan.family.gate:
            gate = self.linear(x, *self.matrices.feed_forward(layer, "gate"), f"{stem}.gate")
            up = self.op("Mul", [self.activation(gate, stem), up], f"{stem}.product", _shape(up))
        else:
            up = self.activation(up, stem)
        return self.linear(up, *self.matrices.feed_forward(layer, "down"), f"{stem}.down")

    def activation(self, x: ir.Value, stem: str) -> ir.Value:
        match self.plan.activation:
            case "silu":
                gate = self.op("Sigmoid", [x], f"{stem}.sigmoid", _shape(x))
                return self.op("Mul", [x, gate], f"{stem}.silu", _shape(x))
            case "relu":
                return self.op("Relu", [x], f"{stem}.relu", _shape(x))
            case kind:
                form = "tanh" if kind == "gelu_tanh" else "none"
                return self.op("Gelu", [x], f"{stem}.gelu", _shape(x), approximate=form)

    def logits(self, states: ir.Value) -> ir.Value:
        """The last norm and the head."""
        normal = self.norm(states, "norm", self.plan.family.last_norm)
        if self.plan.tied:
            result = self._tied_head(normal)
        else:
            result = self.linear(normal, *self.matrices.head(), "head")
        cap = self.plan.final_softcap
        if cap:
            limit = self.constant("softcap", np.array(cap, np.float32))
            shape = _shape(result)
            small = self.op("Div", [result, limit], "head/small", shape)
            result = self.op("Mul", [self.op("Tanh", [small], "head/tanh", shape), limit], "head/capped", shape)
        return result

    def _tied_head(self, x: ir.Value) -> ir.Value:
        """A Gemm reads the embeddings as they lie, [vocabulary, hidden]: one table, stored once. It takes two axes."""
        lead, plan = _shape(x)[:-1], self.plan
        if len(lead) == 1:
            return self._rows_by_table(x, lead[0], "head/flat")
        rows = self.reshape(x, (-1, plan.hidden), "head/rows", ("rows", plan.hidden))
        flat = self._rows_by_table(rows, "rows", "head/flat")
        sizes_of = self.op("Shape", [x], "head/lead", (len(lead),), ir.DataType.INT64, start=0, end=len(lead))
        wanted = [sizes_of, self.ints([plan.vocabulary])]
        shape = self.op("Concat", wanted, "head/shape", (len(lead) + 1,), ir.DataType.INT64, axis=0)
        return self.op("Reshape", [flat, shape], "head", (*lead, plan.vocabulary))

    def _rows_by_table(self, x: ir.Value, rows: int | str, name: str) -> ir.Value:
        inputs = [x, self.constant("embed.weight", self.matrices.embed())]
        bias = self.matrices.head_bias()
        if bias is not None:
            inputs.append(self.constant("head.bias", bias))
        return self.op("Gemm", inputs, name, (rows, self.plan.vocabulary), transB=1)


def sizes(shape: Iterable[Any]) -> list[int]:
    """A shape whose dimensions are all fixed."""
    return [int(d) for d in shape]


def _shape(value: ir.Value) -> list[int | str]:
    assert value.shape is not None
    return [d if isinstance(d, int) else str(d.value) for d in value.shape]
