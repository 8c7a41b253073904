"""Round layer after layer: each sees the inputs that it will really get, and the bias makes up for the mean error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph, grid
from exporter.errors import DataError
from exporter.quantize import apply
from exporter.rounding.frontier import Array, Batch, Frontier, samples_within
from exporter.rounding.gptq import output_target
from exporter.rounding.kinds import LayerRounder, in_bytes
from exporter.rounding.layers import Layer, layers_of
from exporter.rounding.moments import Moments, Sums, sums
from exporter.rounding.tables import round_tables
from exporter.threads import in_order
from exporter.types import QParams, Rounded, TensorPlan

__all__ = ["in_turn", "sequential", "taken"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_MEMORY = 1 << 28  # bytes that one network's frontier may hold
_POSITIONS = 1 << 15  # output positions of a layer that its moments are taken over
_AHEAD = 1 << 27  # bytes of products of batches that may wait to be added
_BIAS_LIMIT = float(2**30)


def sequential(
    model: ir.Model,
    rounded: Rounded,
    batches: Iterable[Batch],
    layer_rounders: Mapping[str, LayerRounder],
    progress: Callable[[int, int], None] | None = None,
) -> Rounded:
    """Every layer of the plan in graph order.

    rounded  integers of all weights; those of layers whose rounder is in ``layer_rounders`` are made anew
    batches  calibration samples; as many as fit in bounded memory are used
    Raises DataError when there is none.
    """
    feeds = taken(model, batches)
    rounded, tables = round_tables(model, rounded, feeds, layer_rounders)
    return in_turn(model, rounded, feeds, feeds, layer_rounders, given=tables, progress=progress)


def in_turn(
    model: ir.Model,
    rounded: Rounded,
    exact: Sequence[Batch],
    feeds: Sequence[Batch],
    layer_rounders: Mapping[str, LayerRounder],
    *,
    given: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Rounded:
    """The same for a graph that may be a piece of a network.

    exact, feeds  what it reads in the float network and in the quantized one
    given         weights that keep their integers
    """
    tensors, integers, biases = dict(rounded.plan.tensors), dict(rounded.integers), dict(rounded.biases)
    quantized = apply(model, rounded)
    wide, narrow = Frontier(model, exact), Frontier(quantized, feeds)
    layers = [layer for layer in layers_of(model) if _is_planned(tensors.get(layer.weight))]
    sources = _own_sources(quantized, layers)
    for done, layer in enumerate(layers):
        if progress is not None:
            progress(done, len(layers))
        weight = _array(model, layer.weight)
        tensor = tensors[layer.weight]
        shared = layer.weight in given or any(other.weight == layer.weight for other in layers[:done])
        rounding = tensor.rounder in layer_rounders and not shared
        if not rounding and layer.bias is None:
            continue
        moments = _moments(layer, wide, narrow, sources[done])
        on_integers = layer.bias in tensors
        read = rounded.plan.read(layer.source, graph.node_name(layer.node)) if on_integers else None
        if rounding:
            qparams, made = _round(layer, weight, moments, tensor, read, layer_rounders[tensor.rounder])
            tensors[layer.weight] = replace(tensor, qparams=qparams)
            integers[layer.weight] = in_bytes(made, qparams.scheme)
        _correct_bias(model, layer, moments, tensors, read, integers[layer.weight], biases)
        _write(quantized, layer, tensors, integers[layer.weight], biases)
    return Rounded(replace(rounded.plan, tensors=tensors), integers, biases)


def taken(model: ir.Model, batches: Iterable[Batch]) -> list[Batch]:
    """As many batches as fit in bounded memory while layers are rounded. Raises DataError when there is none."""
    found: list[Batch] = []
    limit, count = 1, 0
    for batch in batches:
        limit = limit if found else samples_within(model, batch, _MEMORY)
        found.append(batch)
        count += len(next(iter(batch.values())))
        if count >= limit:
            break
    if not found:
        raise DataError("the calibration set holds no samples", "give at least one, better a few hundred")
    return found


def _own_sources(quantized: ir.Model, layers: Sequence[Layer]) -> list[str]:
    """What each layer reads in the quantized graph: the n-th layer of a weight is the same node in both.

    A look-up in the same table is no layer.
    """
    found, seen = [], Counter[str]()
    values = {v.name: v for node in quantized.graph for v in node.outputs}
    for layer in layers:
        weight = values[f"{layer.weight}_dequantized"]
        readers = [node for node in graph.consumers(weight) if node.op_type == layer.node.op_type]
        source = readers[seen[layer.weight]].inputs[0]
        seen[layer.weight] += 1
        assert source is not None
        assert source.name is not None
        found.append(source.name)
    return found


def _is_planned(tensor: TensorPlan | None) -> bool:
    return tensor is not None and tensor.role == "weight" and tensor.qparams is not None


def _moments(layer: Layer, wide: Frontier, narrow: Frontier, source: str) -> Moments:
    moments = Moments(centred=layer.bias is not None)
    inputs = ((x, f) for (f,), (x,) in zip(wide.reach(layer.source), narrow.reach(source), strict=True))
    most = max(_AHEAD // (8 * layer.groups * layer.depth**2), 2)
    for part in in_order(lambda picked: _sums(layer, *picked), _picked(layer, inputs, wide.count), most=most):
        moments.add(part)
    return moments


def _picked(layer: Layer, inputs: Iterable[tuple[Array, Array]], count: int) -> Iterator[tuple[Array, Array, int, int]]:
    """The inputs, and which of their positions are looked at: every step-th of the stream."""
    step = start = 0
    for x, f in inputs:
        positions = layer.positions(x)
        if not step:  # odd, so that it walks through rows and columns of an image alike
            step = max(positions * count // _POSITIONS, 1) | 1
        if start < positions:
            yield x, f, step, start
        start = (start - positions) % step


def _sums(layer: Layer, x: Array, f: Array, step: int, start: int) -> Sums:
    own, exact = (layer.columns(each.astype(np.float32), step, start) for each in (x, f))
    return sums(own, exact)


def _round(
    layer: Layer,
    weight: Floats,
    moments: Moments,
    tensor: TensorPlan,
    read: TensorPlan | None,
    rounder: LayerRounder,
) -> tuple[QParams, npt.NDArray[np.int32]]:
    assert tensor.qparams is not None
    scheme = tensor.qparams.scheme
    covariance = moments.covariance
    target = output_target(layer.matrix(weight.astype(np.float64)), covariance, moments.cross)
    qparams = grid.qparams_of_least_error(layer.tensor(target).astype(np.float32), scheme)
    qparams = _widened(layer, qparams, read)
    scale = layer.spread(qparams.scale.astype(np.float64), scheme.grain)
    zero = layer.spread(qparams.zero_point, scheme.grain)
    return qparams, layer.tensor(rounder(target, covariance, scale, zero, scheme))


def _widened(layer: Layer, qparams: QParams, source: TensorPlan | None) -> QParams:
    """No scale so small that the bias does not fit in int32."""
    if source is None or source.qparams is None:
        return qparams
    array = graph.constant(layer.node.inputs[2])
    assert array is not None
    top = np.abs(np.asarray(array, np.float64))
    floor = (top if qparams.scale.ndim else top.max()) / (_BIAS_LIMIT * float(source.qparams.scale))
    return replace(qparams, scale=np.maximum(qparams.scale, floor).astype(np.float32))


def _correct_bias(
    model: ir.Model,
    layer: Layer,
    moments: Moments,
    tensors: dict[str, TensorPlan],
    source: TensorPlan | None,
    integers: npt.NDArray[np.integer],
    biases: dict[str, Floats],
) -> None:
    """The mean of each output channel is that of the float network (Nagel et al. 2019, section 4.2, from data)."""
    if layer.bias is None:
        return
    qparams = tensors[layer.weight].qparams
    assert qparams is not None
    weight = layer.matrix(_array(model, layer.weight).astype(np.float64))
    real = layer.matrix(grid.dequantize(integers, qparams).astype(np.float64))
    there = np.einsum("gok,gk->go", weight, moments.float_mean) - np.einsum("gok,gk->go", real, moments.mean)
    biases[layer.bias] = (_array(model, layer.bias) + there.reshape(-1)).astype(np.float32)
    planned = tensors.get(layer.bias)
    if planned is not None and planned.qparams is not None and source is not None and source.qparams is not None:
        scale = np.broadcast_to(qparams.scale, planned.qparams.scale.shape).astype(np.float32)
        tensors[layer.bias] = replace(planned, qparams=grid.bias_qparams(source.qparams.scale, scale))


def _write(
    quantized: ir.Model,
    layer: Layer,
    tensors: Mapping[str, TensorPlan],
    integers: npt.NDArray[np.integer],
    biases: Mapping[str, Floats],
) -> None:
    """The layer as it is now, into the network that the next ones get their inputs from."""
    q = tensors[layer.weight].qparams
    assert q is not None
    _set(
        quantized,
        f"{layer.weight}_quantized",
        grid.centred(integers, q),
    )
    _set(quantized, f"{layer.weight}_scale", q.scale)
    if layer.bias is None:
        return
    planned = tensors.get(layer.bias)
    if planned is None or planned.qparams is None:
        _set(quantized, layer.bias, biases[layer.bias])
    else:
        _set(quantized, f"{layer.bias}_quantized", grid.quantize(biases[layer.bias], planned.qparams))
        _set(quantized, f"{layer.bias}_scale", planned.qparams.scale)


def _set(model: ir.Model, name: str, array: npt.NDArray[Any]) -> None:
    model.graph.initializers[name].const_value = ir.tensor(array, name=name)


def _array(model: ir.Model, name: str) -> Floats:
    array = graph.constant(model.graph.initializers[name])
    assert array is not None
    return array.astype(np.float32)
