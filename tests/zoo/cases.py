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
    """

    net: Callable[[], nn.Module]
    inputs: Mapping[str, tuple[int, ...]]
    classes: int | None = -1
    transposes: int = 0
    floats: frozenset[str] = frozenset()
    tokens: int = 0


_IMAGE = {"image": (3, 32, 32)}
CASES: Mapping[str, Case] = {
    "resnet20": Case(resnet.resnet20, _IMAGE),
    "mobilenet_v1": Case(mobilenet_v1.mobilenet_v1, _IMAGE),
    "mobilenet_v2": Case(mobilenet_v2.mobilenet_v2, _IMAGE),
    "mobilenet_v3": Case(mobilenet_v3.mobilenet_v3, _IMAGE),
    "efficientnet_lite": Case(efficientnet_lite.efficientnet_lite, {"image": (3, 64, 64)}),
    "shufflenet": Case(shufflenet.shufflenet, _IMAGE),
    "ssdlite": Case(ssdlite.ssdlite, {"image": (3, 64, 64)}),
    "yolo": Case(yolo.yolo, {"image": (3, 64, 64)}, classes=1),
    "unet": Case(unet.unet, _IMAGE, classes=1),
    "deeplab": Case(deeplab.deeplab, {"image": (3, 48, 48)}, classes=1),
    "superresolution": Case(superresolution.superresolution, {"image": (3, 24, 24)}, classes=None),
    "autoencoder": Case(autoencoder.autoencoder, _IMAGE, classes=None),
    "vit": Case(vit.vit, _IMAGE),
    "mobilevit": Case(mobilevit.mobilevit, _IMAGE),
    "bert": Case(transformer.Classifier, {"tokens": (16,)}, tokens=1000),
    "dscnn": Case(dscnn.dscnn, {"features": (1, 40, 61)}),
    "tcn": Case(tcn.tcn, {"signal": (8, 256)}),
    "keyword_lstm": Case(partial(keyword.keyword, "lstm"), {"frames": (40, 20)}),
    "keyword_gru": Case(partial(keyword.keyword, "gru"), {"frames": (40, 20)}),
    "conformer": Case(conformer.conformer, {"frames": (40, 20)}),
    "wavenet": Case(wavenet.wavenet, {"wave": (1, 256)}, classes=1),
    "mlp": Case(mlp.mlp, {"features": (64,)}),
}


def samples(case: Case, count: int, seed: int) -> dict[str, np.ndarray]:
    """A seeded batch: noise, or token ids."""
    rng = np.random.default_rng(seed)
    if case.tokens:
        return {n: rng.integers(0, case.tokens, (count, *shape)) for n, shape in case.inputs.items()}
    return {n: rng.standard_normal((count, *shape)).astype(np.float32) for n, shape in case.inputs.items()}


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
    return net.eval()
