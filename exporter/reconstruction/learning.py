"""One block: its roundings, scales and biases learn to give the float network's output, all layers together."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor

from exporter import graph
from exporter.finetune import Network
from exporter.reconstruction.samples import Sample, Samples
from exporter.reconstruction.soft import SoftWeight
from exporter.rounding.kinds import in_bytes
from exporter.rounding.layers import layers_of
from exporter.types import Rounded

__all__ = ["STEPS", "learned"]

STEPS = 1000
_SETTLINGS = 40  # times that the surest weights are settled
_SHRINK = 4  # power of the share of the steps that is left: so many weights are still open
_RATE, _SCALE_RATE = 0.02, 3e-3  # of roundings; of the logarithms of scales, and of biases in units of their size
_BETAS = (0.9, 0.95)


def learned(
    piece: ir.Model, rounded: Rounded, names: Collection[str], samples: Samples, told: Callable[[int], None]
) -> tuple[Rounded, float, float]:
    """The block's integers, scales and biases; the loss on held-out samples before and after.

    names  weights that may change; what is learned is kept where the loss on held-out samples is less, else
           ``rounded`` comes back as it was
    told   called with the steps done
    Raises UnsupportedError for an operator without a gradient.
    """
    network, power = Network(piece, rounded, {}), samples.power()
    if not power:  # outputs that are indices
        return rounded, 0.0, 0.0

    def loss(sample: Sample) -> Tensor:
        made = network.forward(sample.feeds)
        off = [torch.mean(torch.square(made[name] - sample.targets[name])) / one for name, one in power.items()]
        return torch.stack(off).mean()

    def held_out() -> float:
        with torch.no_grad():
            return float(np.mean([float(loss(sample)) for sample in samples.held_out()]))

    before = held_out()
    soft = {name: _softened(piece, rounded, name) for name in names}
    network.weights.update(soft)
    network.hold_scales()
    biases = list(
        dict.fromkeys(
            b for layer in layers_of(piece) if layer.weight in soft and (b := layer.bias) in network.biases and b
        )
    )
    slow = [*(one.log for one in soft.values()), *(network.biases[name].latent for name in biases)]
    groups = [{"params": [one.doubt for one in soft.values()], "lr": _RATE}, {"params": slow, "lr": _SCALE_RATE}]
    optimizer = torch.optim.Adam(groups, betas=_BETAS)
    for step, sample in enumerate(samples.steps(STEPS)):
        left = 1 - step / STEPS
        optimizer.param_groups[1]["lr"] = _SCALE_RATE * left
        if step % (STEPS // _SETTLINGS) == 0:
            _settle(list(soft.values()), left**_SHRINK)
            told(step)
        optimizer.zero_grad(set_to_none=True)
        loss(sample).backward()
        optimizer.step()
    _settle(list(soft.values()), 0.0)
    after = held_out()
    if not after < before:
        return rounded, before, before
    return _result(network, rounded, list(soft), biases), before, after


def _softened(piece: ir.Model, rounded: Rounded, name: str) -> SoftWeight:
    array, q = graph.constant(piece.graph.initializers[name]), rounded.plan.tensors[name].qparams
    assert array is not None
    assert q is not None
    return SoftWeight(array.astype(np.float32), q, rounded.integers[name].astype(np.int32))


def _settle(weights: list[SoftWeight], open_share: float) -> None:
    """All but this share, which stays with the most doubtful."""
    sure = torch.cat([one.sureness() for one in weights]).sort().values
    level = float(sure[int((len(sure) - 1) * open_share)]) if open_share else 0.0
    for one in weights:
        one.settle(level)


def _result(network: Network, rounded: Rounded, weights: Collection[str], biases: Collection[str]) -> Rounded:
    found = network.result().rounded
    taken = {name: found.plan.tensors[name] for name in [*weights, *biases] if name in found.plan.tensors}
    integers = {name: _stored(found, name) for name in weights}
    plan = replace(rounded.plan, tensors={**rounded.plan.tensors, **taken})
    shifted = {name: found.biases[name] for name in biases}
    return Rounded(plan, {**rounded.integers, **integers}, {**rounded.biases, **shifted})


def _stored(found: Rounded, name: str) -> npt.NDArray[np.integer]:
    q = found.plan.tensors[name].qparams
    assert q is not None
    return in_bytes(found.integers[name].astype(np.int32), q.scheme)
