"""What each layer is predicted to take on a device in each width, from what was measured there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from exporter import graph
from exporter.errors import RecipeError
from exporter.recipe import Quantize
from exporter.worth import kind
from targets import get_target
from targets.capabilities import Capability, capabilities

__all__ = ["BITS", "RUNTIMES", "Times", "predicted"]

RUNTIMES = ("onnxruntime", "tflite")
BITS: Mapping[str, float] = {
    "binary": 1, "ternary": 1.58, "int2": 2, "int3": 3, "int4": 4, "int5": 5, "int6": 6, "int7": 7, "int8": 8,
    "float": 32,
}  # fmt: skip
_ACTIVATIONS = {"int8": (8, False), "int16": (16, False), "dynamic": (8, True), "float": (0, False)}

Times = Mapping[str, Mapping[str, float]]


def predicted(
    model: ir.Model, names: Sequence[str], widths: Sequence[str], wishes: Quantize, target: str, runtimes: Sequence[str]
) -> Times:
    """By weight and width: its time, in shares of what all these layers take in float.

    A layer's share in float is that of its multiply-adds; a width divides it by its speed over float on the target
    (targets.capabilities), the slower one of the runtimes. Of widths that were not measured the next wider one counts;
    an operator that was not runs as in float. Raises RecipeError where nothing was measured on the target.
    """
    device = get_target(target)
    rows = capabilities(device)
    if not rows:
        raise RecipeError(f"nothing was measured on {target}", f"run kbit targets probe {target}")
    work = dict.fromkeys(names, 0)
    kinds: dict[str, str | None] = {}
    for node in model.graph:
        weight = node.inputs[1].name if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if weight in work:
            work[weight] += _multiply_adds(node)
            kinds[weight] = kind(node)
    total = max(sum(work.values()), 1)
    activations = _ACTIVATIONS[wishes.activations]
    return {
        name: {
            width: work[name] / total / min(_speed(rows, r, kinds[name], BITS[width], activations) for r in runtimes)
            for width in widths
        }
        for name in names
    }


def _multiply_adds(node: ir.Node) -> int:
    """Of one run; open dimensions count once."""
    weight, place = graph.shape_of(node.inputs[1]) or (), 1 if node.op_type == "Conv" else -1  # type: ignore[arg-type]
    shape = [size or 1 for size in graph.shape_of(node.outputs[0]) or ()]
    if not shape:
        return 0
    return math.prod(shape) // shape[place] * math.prod(size or 1 for size in weight)


def _speed(
    rows: Sequence[Capability], runtime: str, op: str | None, bits: float, activations: tuple[int, bool]
) -> float:
    if bits > 8:
        return 1.0
    known = {
        row.weight_bits: row.speed
        for row in rows
        if (row.runtime, row.op, row.activation_bits, row.dynamic) == (runtime, op, *activations)
    }
    return known.get(min((width for width in known if width >= bits), default=-1), 1.0)
