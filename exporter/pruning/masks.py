"""Single weights set to zero. The files keep their size and speed; what compresses or skips zeros gains from it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter import graph
from exporter.ops import OPS

__all__ = ["magnitude_masks", "masked", "pattern_masks"]

Mask = npt.NDArray[np.bool_]
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def magnitude_masks(model: ir.Model, amount: float) -> dict[str, Mask]:
    """The share ``amount`` of all weights, chosen over the whole network by LAMP (Lee et al. 2021, eq. 4).

    A weight's score is its square over the sum of the squares in its layer that are not smaller.
    """
    scores: dict[str, npt.NDArray[np.float64]] = {}
    for name, (array, _) in _weights(model).items():
        squares = np.square(array.astype(np.float64)).reshape(-1)
        order = np.argsort(squares, kind="stable")
        rest = np.cumsum(squares[order][::-1])[::-1]
        score = np.zeros(squares.size)
        score[order] = squares[order] / np.maximum(rest, 1e-300)
        scores[name] = score.reshape(array.shape)
    if not scores:
        return {}
    flat = np.concatenate([s.reshape(-1) for s in scores.values()])
    count = round(amount * flat.size)
    gone = np.zeros(flat.size, np.bool_)
    gone[np.argsort(flat, kind="stable")[:count]] = True
    found, start = {}, 0
    for name, score in scores.items():
        found[name] = ~gone[start : start + score.size].reshape(score.shape)
        start += score.size
    return found


def pattern_masks(model: ir.Model, keep: int, of: int) -> dict[str, Mask]:
    """Of every ``of`` weights in a row along a layer's inputs the ``keep`` largest (Mishra et al. 2021).

    A layer whose inputs are no multiple of ``of`` is left as it is (one that reads 3 colours, depthwise ones).
    """
    found = {}
    for name, (array, axis) in _weights(model).items():
        rows = np.moveaxis(np.abs(array), axis, -1)
        if rows.shape[-1] % of:
            continue
        groups = rows.reshape(-1, of)
        rank = np.argsort(np.argsort(-groups, axis=1, kind="stable"), axis=1, kind="stable")
        found[name] = np.ascontiguousarray(np.moveaxis((rank < keep).reshape(rows.shape), -1, axis))
    return found


def masked(model: ir.Model, masks: dict[str, Mask]) -> ir.Model:
    """A new graph with zeros where a mask is False."""
    result = model.clone()
    for name, mask in masks.items():
        array = graph.constant(result.graph.initializers[name])
        assert array is not None
        result.graph.initializers[name].const_value = ir.tensor(np.where(mask, array, 0).astype(array.dtype), name=name)
    return result


def _weights(model: ir.Model) -> dict[str, tuple[npt.NDArray[np.generic], int]]:
    """Weights of layers by name, and the axis of their inputs."""
    found = {}
    for node in model.graph:
        if node.op_type not in _LAYERS or node.op_type not in OPS:
            continue
        value = node.inputs[1]
        array = graph.constant(value)
        if value is None or array is None or array.ndim < 2:
            continue
        turned = node.op_type == "Conv" or (node.op_type == "Gemm" and node.attributes.get_int("transB", 0) > 0)
        axis = 1 if turned else 0 if node.op_type == "ConvTranspose" else array.ndim - (1 if turned else 2)
        found[str(value.name)] = (array, axis)
    return found
