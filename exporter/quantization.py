"""From a prepared float graph and the recipe's wishes to a plan with its integers: the stages between load and emit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.calibration import OBSERVERS, calibrate
from exporter.errors import MissingError
from exporter.preparing import condition
from exporter.quantize import make_plan, planned_activations
from exporter.recipe import Quantize
from exporter.rounding import round_weights, seeing_samples
from exporter.threads import one_blas_thread
from exporter.types import Plan, Rounded, TensorStats

__all__ = ["Batches", "Progress", "Quantized", "quantize", "round_planned"]

Batches = Callable[[], Iterable[Mapping[str, npt.NDArray[np.generic]]]]  # the calibration samples, anew for each call
Progress = Callable[[str, int, int | None], None]  # stage, done, total


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """model: the float graph that was planned (after the weight passes). ``apply(model, rounded)`` is the QDQ graph.

    idle_passes  by weight pass that changed nothing, what it had looked for
    """

    model: ir.Model
    stats: Mapping[str, TensorStats]
    rounded: Rounded
    idle_passes: Mapping[str, str] = field(default_factory=dict)


@one_blas_thread
def quantize(
    model: ir.Model,
    wishes: Quantize,
    batches: Batches | None = None,
    *,
    count: int | None = None,
    progress: Progress = lambda stage, done, total: None,
    seed: int = 0,
) -> Quantized:
    """Weight passes, calibration, plan, rounding.

    model    prepared with INT8_PASSES (not changed)
    batches  calibration samples; None where nothing asks for any
    count    how many there are, for the progress
    Raises KbitError: whatever the stages raise.
    """

    def observed(graph: ir.Model, values: Sequence[str]) -> dict[str, TensorStats]:
        assert batches is not None
        return calibrate(graph, batches(), values=values, progress=lambda done: progress("calibrate", done, count))

    made = condition(model, wishes.passes, observed if batches is not None else None)
    model = made.model
    watched = planned_activations(model, wishes)
    stats = observed(model, watched) if watched and batches is not None else {}
    progress("plan", 0, None)
    plan = make_plan(model, stats, wishes, observe=OBSERVERS[wishes.observer], samples=batches is not None)
    told = lambda done, total: progress("round", done, total)  # noqa: E731
    rounded = round_planned(model, plan, wishes, batches, progress=told, seed=seed)
    return Quantized(model, stats, rounded, made.idle)


def round_planned(
    model: ir.Model,
    plan: Plan,
    wishes: Quantize,
    batches: Batches | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seed: int = 0,
) -> Rounded:
    """Every weight of the plan as integers, by whatever rounder the plan names for it; ``wishes`` made the plan.

    progress  called with what is done, and how much there is
    Raises KbitError: whatever the rounders raise; MissingError for "brecq" without torch.
    """
    if batches is None or all(plan.tensors[name].rounder != "brecq" for name in seeing_samples(model, plan)):
        corrects = wishes.bias_correction
        return round_weights(model, plan, batches, bias_correction=corrects, progress=progress, seed=seed)
    try:
        from exporter.reconstruction import reconstruct
    except ImportError as error:
        hint = "pip install 'kbit[torch]', or rounder = \"gptq\""
        raise MissingError('rounder "brecq" needs PyTorch, which is not installed', hint) from error
    return reconstruct(model, plan, batches, progress=progress, seed=seed)
