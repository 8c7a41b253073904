"""Block after block: GPTQ on what the block really reads, then its roundings learned together (BRECQ, Li et al. 2021).

Each block is first rounded layer after layer (exporter.rounding.sequential) on the outputs of the blocks before it as
these have been learned, which makes up for what is left of their error; then its integers, weight scales and biases
learn to give the float network's output of the block. Labels are not used, and a block is never worse on held-out
samples than what it started from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from exporter.errors import PlanError, UnsupportedError
from exporter.finetune.threads import torch_threads
from exporter.quantize import apply
from exporter.reconstruction.blocks import Block, blocks_of
from exporter.reconstruction.learning import STEPS, learned
from exporter.reconstruction.samples import Samples
from exporter.rounding import LAYER_ROUNDERS, round_alone
from exporter.rounding.frontier import Frontier, sizes_of
from exporter.rounding.layers import layers_of
from exporter.rounding.sequential import in_turn, taken
from exporter.rounding.tables import round_tables
from exporter.threads import one_blas_thread
from exporter.types import Plan, Rounded

__all__ = ["reconstruct"]

Batches = Callable[[], Iterable[Mapping[str, npt.NDArray[Any]]]]
Values = list[dict[str, npt.NDArray[Any]]]  # batch by batch, by name
_ROWS = 16  # samples of a step
_MEMORY = 1 << 29  # bytes that the values of a step may take
_THREADS = 1  # of torch: the same on every machine, as sums depend on it


@one_blas_thread
def reconstruct(
    model: ir.Model,
    plan: Plan,
    batches: Batches,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seed: int = 0,
) -> Rounded:
    """Every weight of the plan as integers: with the rounder "brecq" learned, else as ``round_weights`` makes them.

    progress  called with steps done, and how many there are
    Raises DataError for no samples; PlanError for int16 activations; UnsupportedError where no block can be learned.
    """
    if plan.borders or any(
        t.role == "activation" and t.qparams and t.qparams.scheme.bits > 8 for t in plan.tensors.values()
    ):
        raise PlanError('rounder "brecq" with int16 activations', 'use rounder = "gptq"')
    rounded = round_alone(model, plan)
    feeds = [dict(batch) for batch in taken(model, batches())]
    rounded, tables = round_tables(model, rounded, feeds, LAYER_ROUNDERS)
    given, blocks = set(tables), blocks_of(model)
    wanted = _wanted(model, plan) - tables
    exact, real = feeds, feeds
    refused: UnsupportedError | None = None
    count = 0
    with torch_threads(_THREADS):
        for place, block in enumerate(blocks):
            piece = block.piece(model)
            exact, real = (_with_free(model, block, feeds, values) for values in (exact, real))
            part = in_turn(piece, _part(rounded, piece), exact, real, LAYER_ROUNDERS, given=given)
            targets = _outputs(piece, exact, block.outputs)
            names = [layer.weight for layer in layers_of(piece) if layer.weight in wanted]
            if names:
                samples = Samples(real, targets, _rows(piece, exact), [seed, place])
                told = lambda step: progress(place * STEPS + step, len(blocks) * STEPS)  # noqa: E731, B023
                try:
                    part, _, _ = learned(piece, part, names, samples, told)
                    count += 1
                except UnsupportedError as error:
                    refused = error
                    part = _kept(part, names, error)
            rounded = _merged(rounded, part)
            given |= {layer.weight for layer in layers_of(piece)}
            exact, real = targets, _outputs(apply(piece, part), real, block.outputs)
    progress(len(blocks) * STEPS, len(blocks) * STEPS)
    if refused is not None and not count:
        raise UnsupportedError(refused.node, refused.op, "", "no gradient, in no block", 'use rounder = "gptq"')
    return rounded


def _wanted(model: ir.Model, plan: Plan) -> set[str]:
    """Weights that are learned: by this rounder, and read once."""
    readers = Counter(str(v.name) for node in model.graph for v in node.inputs if v is not None)
    named = {t.name for t in plan.tensors.values() if t.rounder == "brecq" and t.qparams is not None}
    return {layer.weight for layer in layers_of(model) if layer.weight in named and readers[layer.weight] == 1}


def _with_free(model: ir.Model, block: Block, feeds: Values, values: Values) -> Values:
    """What the block reads: from the block before it, the graph's inputs, or what depends on no weight."""
    found: Values = [{} for _ in feeds]
    for name in block.inputs:
        if name in values[0] or name in feeds[0]:
            arrays = [(ours if name in ours else given)[name] for ours, given in zip(values, feeds, strict=True)]
        else:
            arrays = [array for (array,) in Frontier(model, feeds).reach(name)]
        for each, array in zip(found, arrays, strict=True):
            each[name] = array
    return found


def _outputs(model: ir.Model, feeds: Values, names: Sequence[str]) -> Values:
    return [dict(zip(names, made, strict=True)) for made in Frontier(model, feeds).reach(*names)]


def _part(rounded: Rounded, piece: ir.Model) -> Rounded:
    names = {v.name for node in piece.graph for v in [*node.inputs, *node.outputs] if v is not None}
    tensors = {name: tensor for name, tensor in rounded.plan.tensors.items() if name in names}
    integers = {name: array for name, array in rounded.integers.items() if name in names}
    biases = {name: array for name, array in rounded.biases.items() if name in names}
    return Rounded(replace(rounded.plan, tensors=tensors), integers, biases)


def _merged(whole: Rounded, part: Rounded) -> Rounded:
    tensors = {name: part.plan.tensors.get(name, tensor) for name, tensor in whole.plan.tensors.items()}
    return Rounded(
        replace(whole.plan, tensors=tensors),
        {**whole.integers, **part.integers},
        {**whole.biases, **part.biases},
    )


def _rows(piece: ir.Model, feeds: Values) -> int:
    """Samples of a step: fewer where the block's values for so many would not fit."""
    size = sizes_of(piece, feeds[0])
    each = sum(size(value) for node in piece.graph for value in node.outputs)
    return max(1, min(_ROWS, int(_MEMORY / max(each, 1.0))))


def _kept(part: Rounded, names: Collection[str], error: UnsupportedError) -> Rounded:
    """The block stays as GPTQ has rounded it; the plan says why."""
    why = f"; not learned: {error.op} has no gradient"
    tensors = {n: replace(t, why=t.why + why) if n in names else t for n, t in part.plan.tensors.items()}
    return Rounded(replace(part.plan, tensors=tensors), part.integers, part.biases)
