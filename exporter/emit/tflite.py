"""ONNX (float or QDQ) -> TFLite. Integers, scales and zero points are copied, never derived again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.content import Content
from exporter.emit._batch import Affine, Sized, Spread
from exporter.emit._bias import fuse_bias
from exporter.emit._edges import clamp_after, quant_of, runs_on_integers
from exporter.emit._half import asks_for_halves, with_halves
from exporter.emit._lean import live
from exporter.emit._refine import refine
from exporter.emit._runtime import Following
from exporter.emit._standard import has_definition
from exporter.emit._static import fix_batch
from exporter.emit._storage import Stored, stored_weights, weight_index
from exporter.errors import UnsupportedError
from exporter.ops import OPS, Op
from exporter.ops.expansion import rows_by_name
from exporter.ops.lowering import Lowering, Program, Quant, Region, Tensor, Values, View, identity
from exporter.ops.open_sizes import OPEN_SIZES
from exporter.types import Plan

__all__ = ["CHANNELS_LAST", "SIGNATURE", "emit_tflite", "read_tflite", "refuse_unknown", "translate"]

SIGNATURE = "serving_default"
CHANNELS_LAST = (0, 2, 3, 1)
_MOST = 2**31 - 1
_INTEGERS = frozenset({ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16})
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


def emit_tflite(
    model: ir.Model, plan: Plan | None = None, *, channels_last: bool = False, smallest: bool = False
) -> bytes:
    """A TFLite flatbuffer with the signature of the ONNX graph (names, shapes, order).

    plan           what ``model`` was made of by ``apply``; without it no weight is narrower than it is in the graph
    smallest       convolutions with 4-bit weights keep them so, although TFLite then runs them three times slower
    channels_last  4-d inputs and outputs are NHWC instead of NCHW; a pure CNN then needs no TRANSPOSE
    Raises UnsupportedError (node, op, attribute) for whatever has no row or that TFLite cannot express.
    """
    return bytes(translate({SIGNATURE: model}, plan, channels_last=channels_last, smallest=smallest))


def translate(
    models: Mapping[str, ir.Model], plan: Plan | None = None, *, channels_last: bool = False, smallest: bool = False
) -> Content:
    """Like ``emit_tflite``, as content that is copied nowhere before it is written; one subgraph for each signature.

    models  graph by signature key; constants that they share are stored once
    """
    from exporter.emit import _flatbuffer

    regions = []
    for signature, model in models.items():
        emitter = _Emitter(model, channels_last, stored_weights(model, plan, smallest=smallest))
        emitter.run()
        name = model.graph.name or "main"
        operators = live(emitter.program.operators, [t for _, t in emitter.outputs])
        if asks_for_halves(model):
            operators = with_halves(operators, emitter.program)
        regions.append(Region(name, operators, emitter.inputs, emitter.outputs, signature))
    return _flatbuffer.serialize(regions)


def read_tflite(data: bytes | memoryview, where: str = "the file") -> Any:
    """Tensors, operators, inputs and outputs of a TFLite file (see _read.TfliteFile); BundleError if damaged."""
    from exporter.emit import _read

    return _read.parse(data, where)


class _Emitter(Values):
    """Walks the nodes once; knows for each ONNX value the tensor that holds it."""

    def __init__(self, model: ir.Model, channels_last: bool, stored: Stored) -> None:
        self.stored = stored
        self.fixed = fix_batch(model)
        self.model = self.fixed.model
        refine(self.model, self.fixed.sizes)
        fuse_bias(self.model)
        self.channels_last = channels_last
        self.program = Program()
        self.following = Following(self.program, several=self.fixed.several)
        self.inputs: list[tuple[str, Tensor]] = []
        self.outputs: list[tuple[str, Tensor]] = []
        self._bound: dict[int, View] = {}
        self._float: dict[int, View] = {}
        self._orders: dict[int, npt.NDArray[Any]] = {}
        self._integer = False

    def run(self) -> None:
        """Inputs, nodes, outputs."""
        for value in self.model.graph.inputs:
            if not value.is_initializer():
                self._input(value)
        skipped: set[int] = set()
        for node in self.model.graph:
            if node.op_type == _QUANTIZE and node.domain == "":
                self._quantize(node)
            elif node.op_type == "Constant" and graph.constant(node.outputs[0]) is not None:
                continue  # a graph output; any other one is an initializer by now
            elif id(node) not in skipped and not (node.op_type == _DEQUANTIZE and node.domain == ""):
                skipped.update(self._lower(node))
        for value in self.model.graph.outputs:
            self._output(value)

    # -- Values

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        return self._sized(value).shape

    def dynamic(self, value: ir.Value) -> frozenset[int]:
        return self._sized(value).dynamic

    def sizes(self, value: ir.Value) -> Tensor:
        return self.following.sizes(self._sized(value), value.name or "")

    def numbers(self, start: npt.NDArray[Any], step: npt.NDArray[Any]) -> Tensor:
        return self.following.affine(start, step, "batch")

    def law(self, value: ir.Value | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
        found = self.fixed.laws.get(value.name) if value is not None and value.name is not None else None
        return (found.start, found.step) if isinstance(found, Affine) else None

    def uniform(self, value: ir.Value | None) -> float | None:
        law = self.fixed.laws.get(value.name) if value is not None and value.name is not None else None
        found = self.constant(value)
        array = None if found is None else found[0] if found[1] is None else found[1].real(found[0])
        array = law.row if isinstance(law, Spread) else array
        if array is None or array.size == 0 or array.dtype.kind not in "biuf" or (array != array.flat[0]).any():
            return None
        return float(array.flat[0])

    def _sized(self, value: ir.Value) -> Sized:
        found = self.fixed.sizes.get(value.name or "")
        if found is None:
            node = value.producer()
            name, op = (node.name or "", node.op_type) if node is not None else (value.name or "", "input")
            raise UnsupportedError(name, op, "shape", f"the shape of {value.name!r} is not known", "fix all shapes")
        return found

    def bind(self, value: ir.Value, view: View) -> None:
        if self._integer:
            for quantizer in graph.consumers(value):
                self._bound[id(quantizer.outputs[0])] = view
        else:
            self._bound[id(value)] = view

    def quant(self, value: ir.Value) -> Quant | None:
        quantizer = graph.consumers(value)[0]
        return quant_of(quantizer)[0]

    def constant(self, value: ir.Value | None) -> tuple[npt.NDArray[Any], Quant | None] | None:
        """A constant's numbers as they are stored, and its grid where they are integers; None for what is computed."""
        if value is None:
            return None
        node = value.producer()
        if node is not None and node.op_type == _DEQUANTIZE:
            stored = graph.constant(node.inputs[0])
            if stored is None or node.inputs[0] is None or node.inputs[0].name in self.fixed.laws:
                return None
            quant, shift = quant_of(node)
            if shift:
                stored = (stored.astype(np.int16) - shift).astype(np.int8)
            return stored, quant
        array = graph.constant(value)
        return None if array is None or value.name in self.fixed.laws else (array, None)

    def view(self, value: ir.Value, *, integer: bool) -> View:
        node = value.producer()
        if node is not None and node.op_type == _DEQUANTIZE:
            return self._behind_dequantize(node, value, integer)
        array = graph.constant(value)
        if value.name in self.fixed.laws:
            return self._follower(value)
        if array is not None and array.size == 0:
            return View(self.program.empty(array.shape, array.dtype, value.name or "empty"), identity(array.ndim))
        if array is not None:
            return View(self.program.constant(array, stem=value.name or "constant"), identity(array.ndim))
        return self._held(value)

    def _follower(self, value: ir.Value) -> View:
        """A constant that follows the batch, computed at run time."""
        if id(value) not in self._bound:
            law, name = self.fixed.laws[value.name or ""], value.name or ""
            if law is None or value.dtype is None:
                found = "its numbers are computed from the batch"
                raise UnsupportedError(name, "constant", "batch", found, "export with a fixed batch")
            tensor = self.following.tensor(law, np.dtype(value.dtype.numpy()), name)
            self._bound[id(value)] = View(tensor, identity(len(tensor.shape)))
        return self._bound[id(value)]

    def _stored_follower(self, node: ir.Node, stored: ir.Value) -> View:
        """A constant of integers, repeated as often as the batch says."""
        if id(stored) not in self._bound:
            law, name = self.fixed.laws[stored.name or ""], stored.name or ""
            if not isinstance(law, Spread):
                found = "its integers are computed from the batch"
                raise UnsupportedError(name, "constant", "batch", found, "export with a fixed batch")
            quant, shift = quant_of(node)
            row = (law.row.astype(np.int16) - shift).astype(np.int8) if shift else law.row
            tensor = self.following.tensor(replace(law, row=row), row.dtype, name)
            tensor.quant = quant
            self._bound[id(stored)] = View(tensor, identity(len(tensor.shape)))
        return self._bound[id(stored)]

    def _held(self, value: ir.Value) -> View:
        found = self._bound.get(id(value))
        if found is None:
            node = value.producer()
            op, index = ("input", 0) if node is None else (node.op_type, value.index() or 0)
            where = (node.name if node is not None else value.name) or ""
            raise UnsupportedError(where, op, "", f"its output {index} ({value.name!r}) has no TFLite form here")
        return found

    def _behind_dequantize(self, node: ir.Node, value: ir.Value, integer: bool) -> View:
        found = self.constant(value)
        if found is not None:
            array, quant = found
            if integer:
                return View(self.program.constant(array, quant, value.name or "constant"), identity(array.ndim))
            real = array if quant is None else quant.real(array)
            return View(self.program.constant(real, stem=value.name or "constant"), identity(array.ndim))
        stored = node.inputs[0]
        assert stored is not None
        source = self._stored_follower(node, stored) if stored.name in self.fixed.laws else self._held(stored)
        if integer:
            return source
        if id(stored) not in self._float:
            result = Tensor(
                self.program.name(value.name or "real"),
                source.tensor.shape,
                np.dtype(np.float32),
                source.tensor.dynamic,
            )
            self.program.emit("DEQUANTIZE", [source.tensor], [result], "DequantizeOptions")
            self._float[id(stored)] = View(result, source.layout)
        return self._float[id(stored)]

    def leads_to(self, value: ir.Value | None, source: ir.Value) -> bool:
        while value is not None and value is not source:
            node = value.producer()
            if node is None or node.op_type not in {_QUANTIZE, _DEQUANTIZE}:
                return False
            value = node.inputs[0]
        return value is source

    def flat_order(self, value: ir.Value | None) -> npt.NDArray[Any] | None:
        while value is not None:
            if id(value) in self._orders:
                return self._orders[id(value)]
            node = value.producer()
            value = node.inputs[0] if node is not None and node.op_type in {_QUANTIZE, _DEQUANTIZE} else None
        return None

    def set_flat_order(self, value: ir.Value, order: npt.NDArray[Any]) -> None:
        self._orders[id(value)] = order

    def readers(self, value: ir.Value) -> list[ir.Node]:
        found: list[ir.Node] = []
        for node in graph.consumers(value):
            if node.op_type in {_QUANTIZE, _DEQUANTIZE}:
                found += self.readers(node.outputs[0])
            else:
                found.append(node)
        return found

    # -- the walk

    def _input(self, value: ir.Value) -> None:
        shape, dynamic = self.shape(value), self.dynamic(value)
        layout = CHANNELS_LAST if self.channels_last and len(shape) == 4 else identity(len(shape))
        quant, shift = None, 0
        if value.dtype in _INTEGERS:
            readers = graph.consumers(value)
            if readers and readers[0].op_type == _DEQUANTIZE:
                quant, shift = quant_of(readers[0])
        assert value.dtype is not None
        tensor = Tensor(
            self.program.name(value.name or "input"),
            tuple(shape[a] for a in layout),
            np.dtype(value.dtype.numpy()),
            frozenset(layout.index(a) for a in dynamic),
            quant if quant is None or not shift else Quant(quant.scale, quant.zero_point + shift),
        )
        self.inputs.append((value.name or "", tensor))
        if tensor.dynamic and self.following.source is None:
            self.following.source = tensor
        if quant is not None and shift:
            tensor = self._requantized(tensor, np.dtype(np.int8), quant)
        self._bound[id(value)] = View(tensor, layout)

    def _requantized(self, tensor: Tensor, dtype: np.dtype[Any], quant: Quant) -> Tensor:
        """QUANTIZE between int8 and uint8: the same numbers, 128 apart."""
        result = Tensor(self.program.name(f"{tensor.name}/{dtype.name}"), tensor.shape, dtype, tensor.dynamic, quant)
        self.program.emit("QUANTIZE", [tensor], [result], "QuantizeOptions")
        return result

    def _output(self, value: ir.Value) -> None:
        view = self._held(value) if value.dtype in {ir.DataType.INT8} else self.view(value, integer=False)
        rank = len(self.shape(value))
        layout = CHANNELS_LAST if self.channels_last and rank == 4 else identity(rank)
        tensor = self.program.convert(view, layout).tensor
        if value.dtype == ir.DataType.UINT8 and tensor.dtype == np.int8 and tensor.quant is not None:
            quant = Quant(tensor.quant.scale, tensor.quant.zero_point + 128)
            tensor = self._requantized(tensor, np.dtype(np.uint8), quant)
        taken = {id(t) for _, t in [*self.inputs, *self.outputs]}
        if tensor.data is not None or id(tensor) in taken or self._sized(value).open:
            copy = self.program.temp(tensor, tensor.shape, tensor.dynamic, f"{value.name}/copy")
            if len(tensor.dynamic) > 1:
                self.program.emit("CAST", [tensor], [copy], "CastOptions")
            else:  # also where a kernel may give no elements: readers refuse its result, but not a copy of it
                self.program.reshape_into(tensor, copy)
            tensor = copy
        if tensor.name != value.name:
            tensor.name = self.program.name(value.name or "output")
        self.outputs.append((value.name or "", tensor))

    def _quantize(self, node: ir.Node) -> None:
        stored, source = node.outputs[0], node.inputs[0]
        assert source is not None
        if id(stored) in self._bound:
            return  # the operator before it wrote integers
        quant, _ = quant_of(node)
        maker = source.producer()
        requantize = maker is not None and maker.op_type == _DEQUANTIZE and self.constant(source) is None
        view = self.view(source, integer=requantize)
        if requantize and quant.same(view.tensor.quant):
            self._bound[id(stored)] = view
            return
        name = self.program.name(stored.name or "quantized")
        result = Tensor(name, view.tensor.shape, quant.dtype, view.tensor.dynamic, quant)
        self.program.emit("QUANTIZE", [view.tensor], [result], "QuantizeOptions")
        self._bound[id(stored)] = View(result, view.layout)

    def _lower(self, node: ir.Node) -> list[int]:
        """Write one node; returns the ids of nodes that went into it."""
        row = _row_of(node)
        self._check_types(node, row)
        self._check_sizes(node, node.inputs)
        self._check_counts(node)
        clamp = clamp_after(node) if row.fuses else None
        result = node.outputs[0] if clamp is None else clamp[0].outputs[0]
        self._integer = runs_on_integers(node, row, result)
        if clamp is not None and not self._integer and runs_on_integers(node, row, node.outputs[0]):
            clamp, result, self._integer = None, node.outputs[0], True
        fused = "NONE" if clamp is None else clamp[1]
        assert row.lower is not None
        index = weight_index(node)
        weight = self.constant(node.inputs[index]) if len(node.inputs) > index else None
        storage = self.stored.of(node, None if weight is None else weight[1])
        lowering = Lowering(
            node, self.program, self, integer=self._integer, result=result, fused=fused, storage=storage
        )
        row.lower(lowering)
        lowering.refuse_unread(row.ignores)
        self._check_sizes(node, node.outputs)
        self._integer = False
        return [] if clamp is None else [id(clamp[0])]

    def _check_types(self, node: ir.Node, row: Op) -> None:
        checked = [v for i, v in enumerate(node.inputs) if v is not None and row.role(i) != "static"]
        for value in checked:
            if value.dtype is not None and value.dtype.numpy().name not in row.types:
                found = f"{value.name!r} is {value.dtype.numpy().name}"
                raise UnsupportedError(node.name or "", node.op_type, "type", found, f"can be {', '.join(row.types)}")

    def _check_sizes(self, node: ir.Node, values: Sequence[ir.Value | None]) -> None:
        """A size that only the run tells reaches none but operators that never compute with it here."""
        for value in [v for v in values if v is not None]:
            size = self.fixed.sizes.get(value.name or "")
            if size is not None and size.open and node.op_type not in OPEN_SIZES:
                found = f"dimension {min(size.open)} of {value.name!r} is computed at run time"
                raise UnsupportedError(
                    node.name or "", node.op_type, "shape", found, "make what it comes from constant"
                )

    def _check_counts(self, node: ir.Node) -> None:
        """No tensor has more elements than TFLite's kernels count."""
        for value in [v for v in [*node.inputs, *node.outputs] if v is not None]:
            size = self.fixed.sizes.get(value.name or "")
            if size is not None and math.prod(size.shape) > _MOST:
                found = f"{value.name!r} has {math.prod(size.shape)} elements"
                raise UnsupportedError(node.name or "", node.op_type, "shape", found, f"TFLite counts to {_MOST}")


def refuse_unknown(model: ir.Model) -> None:
    """Raise UnsupportedError for the first operator without a TFLite form: before the long work, not after it."""
    for node in model.graph:
        if node.op_type not in {_QUANTIZE, _DEQUANTIZE} and not has_definition(model, node):
            _row_of(node)


def _row_of(node: ir.Node) -> Op:
    row = rows_by_name(OPS, node)
    if row is None or (row.lower is None and row.expand is None):
        domain = f" of domain {node.domain}" if node.domain else ""
        found = f"this operator{domain} has no TFLite form here"
        raise UnsupportedError(node.name or "", node.op_type, "", found, "leave tflite out of targets.runtimes")
    return row
