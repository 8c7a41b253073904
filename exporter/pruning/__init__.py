"""Fewer weights, before quantization: whole channels removed, or single weights set to zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.finetune.saliency import saliency
from exporter.pruning.masks import magnitude_masks, masked, pattern_masks
from exporter.pruning.structured import prune_channels, wanted_saliency
from exporter.recipe import Prune

__all__ = ["Pruned", "Pruning", "prune"]


@dataclass(frozen=True, slots=True)
class Pruning:
    """What was done. multiply_adds: of one sample; zeros: share of the layers' weights that are zero."""

    method: str
    multiply_adds_before: int = 0
    multiply_adds: int = 0
    zeros: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Pruned:
    """masks: by weight name, False where it stays zero; none where channels were removed."""

    model: ir.Model
    facts: Pruning
    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)


def prune(
    model: ir.Model, wishes: Prune, batches: Iterable[Mapping[str, npt.NDArray[np.generic]]] = (), *, seed: int = 0
) -> Pruned:
    """A new float graph of fewer weights.

    model    prepared
    batches  calibration samples, a few in each: what channels are judged by
    Raises RecipeError when so much cannot be removed, UnsupportedError for an operator without a gradient.
    """
    if wishes.method == "channels":
        found = saliency(model, wanted_saliency(model), batches, seed=seed)
        small, before, after = prune_channels(model, wishes.amount, wishes.multiple, found)
        return Pruned(small, Pruning("channels", before, after))
    assert wishes.method is not None
    keep, _, of = wishes.method.partition(":")
    masks = pattern_masks(model, int(keep), int(of)) if of else magnitude_masks(model, wishes.amount)
    count = sum(mask.size for mask in masks.values())
    zeros = 1 - sum(int(mask.sum()) for mask in masks.values()) / max(count, 1)
    return Pruned(masked(model, masks), Pruning(wishes.method, zeros=zeros), masks)
