"""The plan's scales, zero points and integers, looked up in both files without the code that wrote them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.emit.tflite import read_tflite
from exporter.parity.types import Numbers
from exporter.preparing import prepare
from exporter.types import PerChannel, PerTensor, Plan, QParams, TensorPlan

__all__ = ["compare_numbers", "flattened_maps", "names_of", "orders"]

Array = npt.NDArray[Any]
_PART = re.compile(r"(.+?)((?:/\d+)+)")
_MOVED = 128  # uint8 activations in the ONNX file


def names_of(name: str) -> tuple[str, ...]:
    """What tensor ``name`` of the plan may be called in a TFLite file."""
    return name, f"{name}_quantized", f"{name}_dequantized", f"{name}_float"


def orders(source: tuple[int, ...], target: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of the axes in which a tensor of shape ``source`` has shape ``target``; axes of size 1 come and go."""
    seen = set()
    solid = tuple(s for s in target if s != 1)
    for order in itertools.permutations(range(len(source))):
        kept = tuple(a for a in order if source[a] != 1)
        if tuple(source[a] for a in kept) == solid and kept not in seen:
            seen.add(kept)
            yield order


def compare_numbers(plan: Plan, onnx_model: ir.Model, tflite: bytes) -> Numbers:
    """Every quantized tensor of the plan, in the quantized ONNX graph and in the TFLite file."""
    folded = prepare(_keeping_integers(onnx_model, plan), ["fold"])
    nodes = {n.outputs[0].name: n for n in folded.graph if n.outputs}
    file = read_tflite(tflite)
    tensors: dict[str, Any] = {}
    for tensor in (t for subgraph in file.subgraphs for t in subgraph.tensors):
        tensors.setdefault(tensor.name, tensor)
    parts = _parts_of(tensors)
    counts = {"activation": 0, "weight": 0, "bias": 0}
    integers, different, missing = 0, [], []
    for planned in [*plan.tensors.values(), *(border.tensor for border in plan.borders)]:
        q = planned.qparams
        if q is None:
            continue
        found = next((tensors[n] for n in names_of(planned.name) if n in tensors and tensors[n].scale.size), None)
        found = found or parts.get(planned.name)
        ours = _in_onnx(folded, nodes, planned)
        if ours is None and planned.role == "weight":
            ours = _apart({**folded.graph.initializers, **onnx_model.graph.initializers}, planned.name)
        if ours is None or found is None:
            where = " and ".join(w for w, f in (("ONNX", ours), ("TFLite", found)) if f is None)
            missing.append(f"{planned.name}: not a tensor of its own in {where}")
            continue
        counts[planned.role] += 1
        problems = _grid_problems(q, ours, found)
        if planned.role != "activation":
            stored = ours[2]
            if stored is None or found.data is None:
                missing.append(f"{planned.name}: its integers are not a constant")
            else:
                integers += stored.size
                ways = _rows_of(stored) if isinstance(found, _Parts) else [stored]
                if not any(_same_integers(way, found.data) for way in ways):
                    problems.append("integers differ")
        different += [f"{planned.name}: {p}" for p in problems]
    return Numbers(counts["activation"], counts["weight"], counts["bias"], integers, tuple(different), tuple(missing))


@dataclass(frozen=True, slots=True)
class _Parts:
    """A weight that lies in the file as several: directions of a recurrent layer, gates of a GRU."""

    scale: Array
    zero_point: Array
    data: Array


def _parts_of(tensors: Mapping[str, Any]) -> dict[str, _Parts]:
    """By name: ``name/0``, ``name/1/0`` … one after the other."""
    found: dict[str, list[tuple[tuple[int, ...], Any]]] = {}
    for name, tensor in tensors.items():
        match = _PART.fullmatch(name)
        if match is not None and tensor.scale.size and tensor.data is not None and tensor.data.ndim == 2:
            found.setdefault(match[1], []).append((tuple(map(int, match[2][1:].split("/"))), tensor))
    joined = {}
    for name, parts in found.items():
        ordered = [tensor for _, tensor in sorted(parts, key=lambda part: part[0])]
        if len({tensor.data.shape[1] for tensor in ordered}) == 1:
            fields = ([getattr(tensor, field) for tensor in ordered] for field in ("scale", "zero_point", "data"))
            joined[name] = _Parts(*(np.concatenate(field) for field in fields))
    return joined


def _rows_of(stored: Array) -> list[Array]:
    """All directions of a recurrent weight below each other, whichever of the last two axes are its rows."""
    return [way.reshape(-1, way.shape[-1]) for way in (stored, stored.swapaxes(-1, -2))]


def _same_integers(stored: Array, other: Array) -> bool:
    """In some order of the axes, or with the columns in the order of a feature map flattened channels last."""
    turned = [stored.transpose(o).reshape(other.shape) for o in orders(stored.shape, other.shape)]
    maps = itertools.chain.from_iterable(flattened_maps(matrix) for matrix in turned if stored.ndim == 2)
    return any(np.array_equal(array, other) for array in itertools.chain(turned, maps))


def flattened_maps(rows: Array) -> Iterator[Array]:
    """Rows [...,C*S] of feature maps flattened channels first, as they are channels last, for every C that fits."""
    width = rows.shape[-1]
    for channels in (c for c in range(2, width) if width % c == 0):
        yield rows.reshape(-1, channels, width // channels).swapaxes(1, 2).reshape(rows.shape)


_Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], Array | None]


_FORMS = ("dynamic", "float")  # in which the ONNX file keeps weights that no DequantizeLinear reads (emit.low_bits)


def _keeping_integers(model: ir.Model, plan: Plan) -> ir.Model:
    """A copy that gives these integers: folding would make them one with their scales."""
    wanted = {f"{name}_{form}_{part}" for name in plan.tensors for form in _FORMS for part in ("integers", "scale")}
    result = model.clone()
    result.graph.outputs.extend(v for node in result.graph for v in node.outputs if v.name in wanted)
    return result


def _in_onnx(model: ir.Model, nodes: Mapping[str | None, ir.Node], planned: TensorPlan) -> _Found | None:
    """Scale, zero point as of int8, and the integers of a constant."""
    stored = f"{planned.name}_quantized"
    if planned.role == "activation":
        node = nodes.get(stored)
        if node is None or node.op_type != "QuantizeLinear":
            return None
    else:
        value = model.graph.initializers.get(stored)
        readers = [n for n in graph.consumers(value) if n.op_type == "DequantizeLinear"] if value is not None else []
        if not readers:
            return None
        node = readers[0]
    scale, zero = graph.constant(node.inputs[1]), graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None:
        return None
    zeros = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64)
    if zero is not None and zero.dtype == np.uint8:
        zeros = zeros - _MOVED
    constant = graph.constant(model.graph.initializers.get(stored)) if planned.role != "activation" else None
    return np.asarray(scale, np.float32), zeros, None if constant is None else np.asarray(constant)


def _apart(constants: Mapping[str, ir.Value], name: str) -> _Found | None:
    """Of a weight whose integers and scales lie beside each other."""
    for form in _FORMS:
        values = (constants.get(f"{name}_{form}_{part}") for part in ("integers", "scale"))
        integers, scale = (
            None if value is None or value.const_value is None else value.const_value.numpy() for value in values
        )
        if integers is not None and scale is not None:
            return np.asarray(scale, np.float32), np.zeros(1, np.int64), np.asarray(integers)
    return None


def _grid_problems(q: QParams, ours: _Found, found: Any) -> list[str]:
    scale, zero, _ = ours
    if isinstance(q.scheme.grain, PerTensor | PerChannel):
        theirs = found.scale.reshape(-1), found.zero_point.reshape(-1)
    else:
        return []  # blockwise scales lie in a tensor of their own
    planned_zero = np.zeros_like(q.zero_point) if q.scheme.bits < 8 else q.zero_point
    problems = []
    for who, s, z in (("ONNX", scale.reshape(-1), zero.reshape(-1)), ("TFLite", *theirs)):
        if not _same(s, q.scale):
            problems.append(f"scale differs from the plan in {who}")
        if z.size and not _same(z, planned_zero):
            problems.append(f"zero_point differs from the plan in {who}")
    return problems


def _same(found: Array, planned: Array) -> bool:
    """Equal, where one number stands for all, or directions repeat those of the plan."""
    size = max(found.size, planned.size)
    if size % found.size or size % planned.size:
        return False
    return np.array_equal(np.resize(found, size), np.resize(planned, size))
