"""The quantized graph in torch against ONNX Runtime on the artifact, operator by operator; the same graphs in float."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from exporter.emit.ort import emit_onnx
from exporter.errors import UnsupportedError
from exporter.finetune import Network
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantize import apply, make_plan
from exporter.recipe import Quantize
from exporter.rounding import round_weights
from exporter.types import Plan, Rounded
from tests.conformance.test_int8_ops import ARRAYS, CASES, IMAGE, RANK_2
from tests.quantize.graphs import model_of, run, stats_of

X = {"x": np.random.default_rng(8).standard_normal((16, 8, 8, 8)).astype(np.float32)}
ONE_STEP = {
    "average pool", "global average pool", "matmul of two activations", "mul", "mul by each channel", "resize nearest",
    "silu",
}  # fmt: skip


def prepared(name: str) -> ir.Model:
    body = CASES[name][0]
    words = set(body.replace(",", " ").replace("(", " ").replace(")", " ").split())
    head = IMAGE.replace("[N,A,B,C]", "[N,A]") if name in RANK_2 else IMAGE
    return prepare(model_of(head + body, **{k: a for k, a in ARRAYS.items() if k in words}), INT8_PASSES)


def outputs(network: Network) -> np.ndarray:
    with torch.no_grad():
        (made,) = network.forward({"x": torch.from_numpy(X["x"])}).values()
    return made.numpy()


WEIGHTED = ("conv", "conv, 4 groups", "depthwise", "depthwise, multiplier 2", "flatten and gemm", "matmul")


@pytest.mark.parametrize(
    ("name", "weights"), [*((name, "int8") for name in CASES), *((n, w) for n in WEIGHTED for w in ("int3", "binary"))]
)
def test_as_the_artifact(name: str, weights: str) -> None:
    model = prepared(name)
    wishes = Quantize(weights=weights, rounder="nearest")  # type: ignore[arg-type]
    rounded = round_weights(model, make_plan(model, stats_of(model, X), wishes))
    expected = run(emit_onnx(apply(model, rounded), rounded.plan), X)["y"]
    scale = rounded.plan.tensors["y"].qparams.scale  # type: ignore[union-attr]
    steps = np.abs(np.rint((outputs(Network(model, rounded, {})) - expected) / scale))
    assert steps.max() <= (1 if name in ONE_STEP else CASES[name][1])
    assert np.mean(steps > 0) < 0.01


@pytest.mark.parametrize("name", CASES)
def test_in_float(name: str) -> None:
    model = prepared(name)
    found = outputs(Network(model, Rounded(Plan({}), {}), {}))
    np.testing.assert_allclose(found, run(model, X)["y"], rtol=1e-4, atol=1e-4)


def test_what_training_gives_back_untouched_is_what_it_got() -> None:
    model = prepared("conv")
    rounded = round_weights(model, make_plan(model, stats_of(model, X), Quantize(weights="int4", rounder="nearest")))
    found = Network(model, rounded, {}).result().rounded
    assert found.integers.keys() == rounded.integers.keys()
    for name, integers in rounded.integers.items():
        np.testing.assert_array_equal(found.integers[name], integers)
        assert found.plan.tensors[name].qparams == rounded.plan.tensors[name].qparams


def test_an_operator_without_a_row_is_named() -> None:
    model = model_of("main (float[N,4] x) => (float[N,4] y) { y = Hardmax(x) }")
    with pytest.raises(UnsupportedError, match="Hardmax"):
        Network(model, Rounded(Plan({}), {}), {})
