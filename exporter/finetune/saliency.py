"""How much each weight carries: w x dL/dw on calibration samples, with no labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from exporter.finetune.network import Network
from exporter.finetune.threads import torch_threads
from exporter.types import Plan, Rounded

__all__ = ["saliency"]

_THREADS = 2


def saliency(
    model: ir.Model, names: Sequence[str], batches: Iterable[Mapping[str, npt.NDArray[np.generic]]], *, seed: int = 0
) -> Iterator[dict[str, npt.NDArray[np.float64]]]:
    """For each batch, w x dL/dw of the named constants of a float graph, of their shapes.

    L is the sum of the outputs with signs drawn at random for each value: the mean of its squared gradient is the
    Gauss-Newton matrix of the squared error of the outputs (Hutchinson's estimator), so that the squares of sums of w x
    dL/dw tell how far the outputs move when those weights go.
    Raises UnsupportedError for an operator without a gradient.
    """
    network = Network(model, Rounded(Plan({}), {}), {})
    learned = {**network.weights, **network.biases}
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        with torch_threads(_THREADS):
            feeds = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}
            loss = torch.zeros(())
            for made in network.forward(feeds).values():
                if made.is_floating_point():
                    signs = torch.randint(0, 2, made.shape, generator=generator) * 2.0 - 1.0
                    loss = loss + (made * signs).sum()
            chosen = [learned[name].latent for name in names]
            gradients = torch.autograd.grad(loss, chosen, allow_unused=True)
        yield {
            name: np.zeros(tuple(weight.shape)) if slope is None else (weight.detach() * slope).double().numpy()
            for name, weight, slope in zip(names, chosen, gradients, strict=True)
        }
