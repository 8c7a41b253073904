"""Quantization-aware training: the quantized graph learns to give the float model's outputs on the user's samples."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor

from exporter.data import Dataset
from exporter.errors import DataError
from exporter.files import refuse_unwritable
from exporter.finetune import saved
from exporter.finetune.network import Network, Trained
from exporter.finetune.objective import Objective
from exporter.finetune.samples import Batch, Samples
from exporter.finetune.threads import torch_threads
from exporter.recipe import Finetune, to_dict
from exporter.threads import one_blas_thread
from exporter.types import Rounded
from targets.agent.metrics import METRICS, score

__all__ = ["Epoch", "History", "finetune"]

Progress = Callable[[str, int, int | None], None]  # stage, done, total
_WARM_UP = 0.05  # share of all steps


@dataclass(frozen=True, slots=True)
class Epoch:
    """Mean losses of one epoch; epoch 0 is before training. held_out, metric: on held-out samples, where there are."""

    number: int
    loss: float | None
    held_out: float | None
    metric: float | None


@dataclass(frozen=True, slots=True)
class History:
    """How training went.

    kept    number of the epoch whose weights ship
    metric  of the network as it ships, on the evaluation samples: what the artifacts must show; None without any
    """

    stage: str
    epochs: tuple[Epoch, ...]
    kept: int
    metric_name: str
    metric: float | None = None


@one_blas_thread
def finetune(
    model: ir.Model,
    rounded: Rounded,
    data: Dataset,
    wishes: Finetune,
    *,
    teacher: ir.Model,
    metric: str = "top1",
    evaluation: Dataset | None = None,
    masks: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    checkpoint: Path | None = None,
    progress: Progress = lambda stage, done, total: None,
    stage: str = "finetune",
    seed: int = 0,
) -> tuple[Trained, History]:
    """Train weights, their scales and the scales of activations; give back the best epoch as it ships.

    model, rounded  the planned float graph and its integers; Rounded(Plan({}), {}) trains the graph in float
    data            training samples; of them ``wishes.held_out`` decide which epoch is the best
    teacher         the float graph whose outputs are learned
    evaluation      seen once, at the end: the metric that both artifacts must show (History.metric)
    masks           by weight name: False where a weight stays zero
    checkpoint      written after each epoch; a run of the same model, data and wishes goes on from there
    Raises UnsupportedError for an operator without a gradient, DataError for labels or samples that are missing.
    """
    with torch_threads(wishes.threads):
        samples = Samples(data, wishes, seed)
        objective = Objective.of(teacher, metric, wishes, labelled=data.labels is not None)
        network = Network(model, rounded, masks or {})
        run = _Run(network, objective, samples, wishes, metric)
        state = saved.State.fresh("")
        if checkpoint is not None:
            refuse_unwritable(checkpoint.parent, folder=True)
            print_ = _print_of((model, teacher), rounded, data, wishes, masks or {}, f"{metric} {seed}")
            state = saved.read(checkpoint, saved.State.fresh(print_))
        run.restore(state)
        total = wishes.epochs * samples.steps()
        while len(run.history) <= wishes.epochs and not run.is_over():
            number = len(run.history)
            run.epoch(number, lambda step: progress(stage, (number - 1) * samples.steps() + step, total))  # noqa: B023
            if checkpoint is not None:
                saved.write(checkpoint, run.state(state))
        progress(stage, total, total)
        run.keep_best()
        network.fix_scales()
        history = History(stage, tuple(run.history), run.best, metric, _measured(network, evaluation, metric, wishes))
        return network.result(), history


class _Run:
    """The state between epochs: parameters, optimizer, the best so far."""

    def __init__(self, network: Network, objective: Objective, samples: Samples, wishes: Finetune, metric: str) -> None:
        self.network, self.objective, self.samples, self.wishes, self.metric = (
            network,
            objective,
            samples,
            wishes,
            metric,
        )
        self.parameters = network.parameters()
        self.optimizer = torch.optim.Adam(self.parameters, lr=wishes.learning_rate)
        self.history: list[Epoch] = []
        self.best = 0
        self.kept: list[Tensor] = []

    def restore(self, state: saved.State) -> None:
        if not state.history:
            self._remember(Epoch(0, None, *self._held_out()))
            return
        self.history = [Epoch(*row) for row in state.history]
        self.best, self.kept = state.best, state.kept
        self.optimizer.load_state_dict(state.optimizer)
        self._set(state.parameters)

    def state(self, before: saved.State) -> saved.State:
        rows = [(e.number, e.loss, e.held_out, e.metric) for e in self.history]
        now = [p.detach().clone() for p in self.parameters]
        return replace(
            before, history=rows, best=self.best, kept=self.kept, parameters=now, optimizer=self.optimizer.state_dict()
        )

    def is_over(self) -> bool:
        """Held-out samples have seen no better epoch for so many."""
        patience = self.wishes.patience
        return 0 < patience < len(self.history) - self.best

    def epoch(self, number: int, told: Callable[[int], None]) -> None:
        """Once through the samples, as epoch ``number`` from 1 on; ``told`` hears of each step before it."""
        steps, losses = self.samples.steps(), []
        for step, batch in enumerate(self.samples.epoch(number)):
            told(step)
            for group in self.optimizer.param_groups:
                group["lr"] = self.wishes.learning_rate * _schedule(
                    (number - 1) * steps + step, self.wishes.epochs * steps
                )
            self.optimizer.zero_grad(set_to_none=True)
            losses.append(self._learn(batch))
            self.optimizer.step()
        mean = float(np.mean(losses))
        if not math.isfinite(mean):
            raise DataError(f"fine-tuning diverged in epoch {number}", "use a smaller finetune.learning_rate")
        self._remember(Epoch(number, mean, *self._held_out()))

    def keep_best(self) -> None:
        self._set(self.kept)

    def _learn(self, batch: Batch) -> float:
        """Gradients of the batch's mean loss. A graph of a fixed batch size takes it in parts."""
        size, total = self.network.batch or len(batch), 0.0
        for part in batch.parts(size):
            if len(part) < size:
                continue  # a graph of fixed batch size cannot take the rest
            loss = self.objective.loss(self.network.forward(_tensors(part)), self.objective.teach(part), part.labels)
            (loss * (len(part) / len(batch))).backward()
            total += float(loss.detach()) * len(part) / len(batch)
        return total

    def _held_out(self) -> tuple[float | None, float | None]:
        losses, counts, made, labels = [], [], [], []
        with torch.no_grad():
            for batch in self.samples.held_out():
                for part in batch.parts(self.network.batch or len(batch)):
                    if self.network.batch and len(part) < self.network.batch:
                        continue
                    found = self.network.forward(_tensors(part))
                    losses.append(float(self.objective.loss(found, self.objective.teach(part), part.labels)))
                    counts.append(len(part))
                    made.append(found[self.objective.outputs[0]].numpy())
                    labels.append(part.labels)
        if not losses:
            return None, None
        known = self.metric in METRICS and self.metric != "spearman" and all(one is not None for one in labels)
        value = score(self.metric, np.concatenate(made), np.concatenate(labels)) if known else None  # type: ignore[arg-type]
        return float(np.average(losses, weights=counts)), value

    def _remember(self, epoch: Epoch) -> None:
        """The lowest held-out loss is the best; without held-out samples the last epoch is."""
        self.history.append(epoch)
        before = self.history[self.best]
        if (
            len(self.history) == 1
            or epoch.held_out is None
            or before.held_out is None
            or epoch.held_out < before.held_out
        ):
            self.best = epoch.number
            self.kept = [p.detach().clone() for p in self.parameters]

    def _set(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)


def _schedule(step: int, total: int) -> float:
    """Share of the learning rate: a short warm-up, then half a cosine down to nothing."""
    warm = max(1, round(_WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def _tensors(batch: Batch) -> dict[str, Tensor]:
    found = {}
    for name, array in batch.feeds.items():
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        found[name] = tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
    return found


def _measured(network: Network, evaluation: Dataset | None, metric: str, wishes: Finetune) -> float | None:
    """The metric on all evaluation samples, as the checker measures it on the artifacts."""
    if evaluation is None or evaluation.labels is None or metric not in METRICS:
        return None
    rows = []
    with torch.no_grad():
        for feeds in evaluation.batches(network.batch or wishes.batch_size):
            made = network.forward(_tensors(Batch(feeds, None)))
            rows.append(next(iter(made.values())).numpy())
    return float(score(metric, np.concatenate(rows), evaluation.labels))


def _print_of(
    models: Sequence[ir.Model],
    rounded: Rounded,
    data: Dataset,
    wishes: Finetune,
    masks: Mapping[str, npt.NDArray[np.bool_]],
    rest: str,
) -> str:
    """Of everything that decides how training goes: the samples themselves, too."""
    found = hashlib.sha256(f"{rest} {torch.__version__}".encode())
    for model in models:
        found.update(ir.to_proto(model).SerializeToString(deterministic=True))
    found.update(rounded.plan.to_json().encode())
    for arrays in (rounded.integers, rounded.biases, masks):
        for name in sorted(arrays):
            found.update(name.encode() + arrays[name].tobytes())
    asked = {name: value for name, value in to_dict(wishes).items() if name not in {"checkpoint", "data"}}
    found.update(str(sorted(asked.items())).encode())
    data.print_into(found)
    return found.hexdigest()
