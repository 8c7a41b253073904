"""Losses over class scores, against ONNX Runtime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.ops.pair import check

RNG = np.random.default_rng(37)
SHAPES = [(3, 5), (3, 5, 4), (2, 4, 3, 2), (2, 3, 2, 1, 2, 2)]


@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_losses(op: str, reduction: str) -> None:
    for shape, weighted, ignored, kind in itertools.product(SHAPES, (False, True), (None, 1, -7), ("int64", "int32")):
        target = RNG.integers(0, shape[1], (shape[0], *shape[2:])).astype(kind)
        if ignored is not None:
            target.flat[::3] = ignored
        weight = np.abs(RNG.normal(size=shape[1])).astype(np.float32) if weighted else None
        inputs = {"x": RNG.normal(size=shape).astype(np.float32), "t": target, "w": weight}
        fields = {} if ignored is None else {"ignore_index": ignored}
        outputs = 2 if op == "SoftmaxCrossEntropyLoss" else 1
        check(op, inputs, constants=["w"], permuted=True, reduction=reduction, outputs=outputs, **fields)
        check(op, inputs, batch=["x", "t"], reduction=reduction, **fields)


def test_scores_without_end() -> None:
    x = np.float32([[-np.inf, 0, -3], [-1, -np.inf, -2]])
    check("NegativeLogLikelihoodLoss", {"x": x, "t": np.array([1, 0])})
    check("NegativeLogLikelihoodLoss", {"x": x, "t": np.array([0, 2])}, ignore_index=0)
