"""The zoo: architectures that people ship, with their inputs and what their files may look like."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from tests.nets import (
    autoencoder,
    conformer,
    deeplab,
    dscnn,
    efficientnet_lite,
    keyword,
    mlp,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobilevit,
    resnet,
    shufflenet,
    ssdlite,
    superresolution,
    tcn,
    transformer,
    unet,
    vit,
    wavenet,
    yolo,
)

__all__ = ["CASES", "Case", "build", "samples"]


@dataclass(frozen=True)
class Case:
    """A net and its inputs without the batch.

    classes     axis of the output over which the largest counts as the answer; None: it gives no classes
    transposes  TRANSPOSE that its channels-last file may hold at most, in float
    floats      operators that stay in float in the int8 files, by type
    tokens      integer inputs: one more than the largest id
    decibels    the int8 files' signal to noise ratio at least
    kinds       inputs are noise around so many patterns, and ``head`` is fitted to tell them apart: with random weights
                alone the classes of a transformer lie closer together than one step of a grid
    """

    net: Callable[[], nn.Module]
    inputs: Mapping[str, tuple[int, ...]]
    classes: int | None = -1
    transposes: int = 0
    floats: frozenset[str] = frozenset()
    tokens: int = 0
    decibels: float = 20
    kinds: int = 0


_IMAGE = {"image": (3, 32, 32)}
_STREAM = frozenset({"Add", "LayerNormalization"})  # the residual stream of a transformer
_STATE = frozenset({"Expand", "Shape", "Slice", "Transpose"})  # around a recurrent layer, the first state among them
CASES: Mapping[str, Case] = {
    "resnet20": Case(resnet.resnet20, _IMAGE),
    "mobilenet_v1": Case(mobilenet_v1.mobilenet_v1, _IMAGE),
    "mobilenet_v2": Case(mobilenet_v2.mobilenet_v2, _IMAGE),
    "mobilenet_v3": Case(mobilenet_v3.mobilenet_v3, _IMAGE),
    "efficientnet_lite": Case(efficientnet_lite.efficientnet_lite, {"image": (3, 64, 64)}),
    "shufflenet": Case(shufflenet.shufflenet, _IMAGE),
    "ssdlite": Case(ssdlite.ssdlite, {"image": (3, 64, 64)}),
    "yolo": Case(yolo.yolo, {"image": (3, 64, 64)}, classes=1, transposes=1, floats=frozenset({"Concat"})),
    "unet": Case(unet.unet, _IMAGE, classes=1),
    "deeplab": Case(deeplab.deeplab, {"image": (3, 48, 48)}, classes=1, floats=frozenset({"Shape"})),
    "superresolution": Case(
        superresolution.superresolution, {"image": (3, 24, 24)}, classes=None, floats=frozenset({"PRelu"})
    ),
    "autoencoder": Case(autoencoder.autoencoder, _IMAGE, classes=None, transposes=1, decibels=12),
    "vit": Case(vit.vit, _IMAGE, transposes=6, floats=_STREAM | {"Expand", "Shape"}, decibels=12, kinds=10),
    "mobilevit": Case(mobilevit.mobilevit, _IMAGE, transposes=8, floats=_STREAM),
    "bert": Case(transformer.Classifier, {"tokens": (16,)}, tokens=1000, transposes=8, floats=_STREAM | {"Gather"}),
    "dscnn": Case(dscnn.dscnn, {"features": (1, 40, 61)}),
    "tcn": Case(tcn.tcn, {"signal": (8, 256)}, transposes=1),
    "keyword_lstm": Case(partial(keyword.keyword, "lstm"), {"frames": (40, 20)}, floats=_STATE),
    "keyword_gru": Case(partial(keyword.keyword, "gru"), {"frames": (40, 20)}, floats=_STATE),
    "conformer": Case(conformer.conformer, {"frames": (40, 20)}, transposes=4, floats=_STREAM),
    "wavenet": Case(wavenet.wavenet, {"wave": (1, 256)}, classes=1, transposes=1, floats=frozenset({"ReduceSum"})),
    "mlp": Case(mlp.mlp, {"features": (64,)}),
}


def samples(case: Case, count: int, seed: int) -> dict[str, np.ndarray]:
    """A seeded batch: noise, or token ids."""
    rng = np.random.default_rng(seed)
    if case.tokens:
        return {n: rng.integers(0, case.tokens, (count, *shape)) for n, shape in case.inputs.items()}
    found = {n: rng.standard_normal((count, *shape)).astype(np.float32) for n, shape in case.inputs.items()}
    if case.kinds:
        for name, patterns in _patterns(case).items():
            found[name] += patterns[_labels(case, count, seed)]
    return found


def _patterns(case: Case) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(99)
    return {n: rng.standard_normal((case.kinds, *shape)).astype(np.float32) for n, shape in case.inputs.items()}


def _labels(case: Case, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(1000 + seed).integers(0, case.kinds, count)


def _fit_head(net: nn.Module, case: Case) -> None:
    """Ridge regression of the last layer on what it reads."""
    head = net.get_submodule("head")
    assert isinstance(head, nn.Linear)
    read: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    with torch.no_grad():
        net(**{n: torch.from_numpy(a) for n, a in samples(case, 400, 77).items()})
        handle.remove()
        features = torch.cat([read[0], torch.ones(len(read[0]), 1)], 1).double()
        wanted = nn.functional.one_hot(torch.from_numpy(_labels(case, 400, 77)), head.out_features).double()
        weights = torch.linalg.solve(features.T @ features + torch.eye(features.shape[1]), features.T @ wanted)
        head.weight.copy_(weights[:-1].T)
        head.bias.copy_(weights[-1])


def build(case: Case) -> nn.Module:
    """Seeded weights, with batch-norm statistics of the zoo's own noise, so that activations have a sane range."""
    torch.manual_seed(0)
    net = case.net()
    names = list(inspect.signature(net.forward).parameters)
    assert set(case.inputs) <= set(names), f"{names}"
    net.train()
    with torch.no_grad():
        for seed in range(4):
            net(**{n: torch.from_numpy(a) for n, a in samples(case, 16, seed).items()})
    net.eval()
    if case.kinds:
        _fit_head(net, case)
    return net
