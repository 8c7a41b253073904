"""What training makes small: the distance to the float model's outputs, and to the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional as F

from exporter import reference
from exporter.errors import DataError
from exporter.finetune.samples import Batch
from exporter.recipe import Finetune

__all__ = ["Objective"]

_CLASSES = frozenset({"top1", "top5"})
_LEAST = 1e-4  # of a probability, before its logarithm


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """Mean loss of a batch.

    Class scores are compared as Hinton et al. 2015 do (KL divergence at a temperature, times its square), other outputs
    by their squared distance in units of the float output's variance.
    """

    outputs: tuple[str, ...]
    probabilities: bool  # the first output is what a Softmax gives
    classes: bool
    distillation: float
    temperature: float
    _session: object

    @classmethod
    def of(cls, teacher: ir.Model, metric: str, wishes: Finetune, *, labelled: bool) -> Objective:
        """Raises DataError for labels that are asked for but not there, or that this metric cannot be trained on."""
        share = (
            (0.5 if labelled and metric in _CLASSES else 1.0) if wishes.distillation is None else wishes.distillation
        )
        if share < 1 and not labelled:
            found = f"finetune.distillation = {share:g}, but {wishes.data} has no labels"
            raise DataError(found, 'add an array "labels", or set it to 1')
        if share < 1 and metric not in {*_CLASSES, "mse"}:
            raise DataError(f"finetune.distillation = {share:g} with metric {metric!r}", "labels serve top1, top5, mse")
        values = teacher.graph.outputs
        first, producer = values[0], values[0].producer()
        classes = metric in _CLASSES and first.shape is not None and len(first.shape) == 2
        softmax = producer is not None and producer.op_type == "Softmax"
        names = tuple(str(v.name) for v in values)
        return cls(names, softmax, classes, share, wishes.temperature, reference.session(teacher, threads=1))

    def teach(self, batch: Batch) -> dict[str, Tensor]:
        """The float model's outputs."""
        found = self._session.run(list(self.outputs), dict(batch.feeds))  # type: ignore[attr-defined]
        return {name: torch.from_numpy(array) for name, array in zip(self.outputs, found, strict=True)}

    def loss(
        self, made: Mapping[str, Tensor], taught: Mapping[str, Tensor], labels: npt.NDArray[np.generic] | None
    ) -> Tensor:
        """[]: how far the outputs are from the float network's and, for the rest of the weight, from the labels."""
        total = torch.zeros(())
        for place, name in enumerate(self.outputs):
            if self.distillation == 0 or not taught[name].is_floating_point():
                continue
            if place == 0 and self.classes:
                t = self.temperature
                student, teacher = (F.log_softmax(self._scores(x[name]) / t, 1) for x in (made, taught))
                far = F.kl_div(student, teacher, reduction="batchmean", log_target=True) * t * t
            else:
                far = F.mse_loss(made[name], taught[name]) / taught[name].var(correction=0).clamp(min=1e-12)
            total = total + self.distillation * far
        if self.distillation < 1:
            assert labels is not None
            total = total + (1 - self.distillation) * self._against(made[self.outputs[0]], labels)
        return total

    def _scores(self, output: Tensor) -> Tensor:
        return output.clamp(min=_LEAST).log() if self.probabilities else output

    def _against(self, output: Tensor, labels: npt.NDArray[np.generic]) -> Tensor:
        if self.classes:
            return F.cross_entropy(self._scores(output), torch.from_numpy(labels.astype(np.int64)))
        wanted = torch.from_numpy(labels.astype(np.float32)).reshape(output.shape)
        return F.mse_loss(output, wanted)
