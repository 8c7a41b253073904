"""Architectures that people ship, from torch to both runtimes: float and int8."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from exporter.calibration import calibrate
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.loading import load
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantize import apply, make_plan
from exporter.recipe import InputSpec
from exporter.reference import run
from tests.nets import dscnn, mlp, mobilenet_v1, mobilenet_v2, mobilenet_v3, resnet, tcn, transformer


@dataclass(frozen=True)
class Case:
    """A net, its inputs without the batch, and how many TRANSPOSE its channels-last file may hold."""

    build: Callable[[], nn.Module]
    inputs: Mapping[str, tuple[int, ...]]
    transposes: int = 0
    int8: bool = True


CASES = {
    "resnet20": Case(resnet.resnet20, {"image": (3, 32, 32)}),
    "mobilenet_v1": Case(mobilenet_v1.mobilenet_v1, {"image": (3, 32, 32)}),
    "mobilenet_v2": Case(mobilenet_v2.mobilenet_v2, {"image": (3, 32, 32)}),
    "mobilenet_v3": Case(mobilenet_v3.mobilenet_v3, {"image": (3, 32, 32)}),
    "dscnn": Case(dscnn.dscnn, {"spectrogram": (1, 40, 61)}),
    "tcn": Case(tcn.tcn, {"wave": (8, 256)}, transposes=1),
    "mlp": Case(mlp.mlp, {"x": (64,)}),
}


def specs(case: Case) -> dict[str, InputSpec]:
    return {name: InputSpec(["batch", *shape]) for name, shape in case.inputs.items()}


def samples(case: Case, count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {n: rng.standard_normal((count, *shape)).astype(np.float32) for n, shape in case.inputs.items()}


def settled(net: nn.Module, case: Case) -> nn.Module:
    """Random weights with batch-norm statistics of noise, so that activations have a sane range."""
    torch.manual_seed(0)
    net.train()
    for seed in range(4):
        feeds = samples(case, 16, seed)
        with torch.no_grad():
            net(*(torch.from_numpy(a) for a in feeds.values()))
    return net.eval()


@pytest.fixture(scope="module", params=CASES)
def loaded(request: pytest.FixtureRequest) -> tuple[Case, ir.Model]:
    case = CASES[request.param]
    torch.manual_seed(0)
    net = settled(case.build(), case)
    parameters = list(inspect.signature(net.forward).parameters)
    feeds = samples(case, 3, 0)
    example = dict(zip(parameters, feeds.values(), strict=False))
    renamed = Case(case.build, dict(zip(parameters, case.inputs.values(), strict=False)), case.transposes, case.int8)
    return renamed, load(net, example_inputs=example)


def tflite_run(data: bytes, feeds: Mapping[str, np.ndarray], *, channels_last: bool) -> list[np.ndarray]:
    turned = {n: a.transpose(0, 2, 3, 1) if channels_last and a.ndim == 4 else a for n, a in feeds.items()}
    return list(Interpreter(model_content=data, num_threads=1).get_signature_runner()(**turned).values())


@pytest.mark.parametrize("channels_last", [False, True])
def test_float(loaded: tuple[Case, ir.Model], channels_last: bool) -> None:
    case, model = loaded
    model = prepare(model)
    data = emit_tflite(model, channels_last=channels_last)
    for batch in (1, 3):
        feeds = samples(case, batch, 5)
        expected = next(iter(run(model, feeds).values()))
        actual = tflite_run(data, feeds, channels_last=channels_last)[0]
        assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
    if channels_last:
        assert sum(o.code == "TRANSPOSE" for o in read_tflite(data).operators) <= case.transposes


def test_int8(loaded: tuple[Case, ir.Model]) -> None:
    case, model = loaded
    model = prepare(model, INT8_PASSES)
    stats = calibrate(model, [samples(case, 16, seed) for seed in range(8)])
    plan = make_plan(model, stats)
    assert not plan.float_nodes
    quantized = apply(model, plan)
    feeds = samples(case, 100, 3)
    onnx = next(iter(run(emit_onnx(quantized), feeds).values()))
    data = emit_tflite(quantized, channels_last=True)
    tflite = tflite_run(data, feeds, channels_last=True)[0]
    assert np.mean(onnx.argmax(1) == tflite.argmax(1)) >= 0.99
    codes = [o.code for o in read_tflite(data).operators]
    assert (codes.count("QUANTIZE"), codes.count("DEQUANTIZE")) == (1, 1), "integers from end to end"
    real = next(iter(run(model, feeds).values()))
    noise = np.square(onnx - real).sum()
    assert 10 * np.log10(np.square(real - real.mean()).sum() / noise) > 10, "SQNR, dB"


@pytest.mark.parametrize("gelu", ["none", "tanh"])
def test_transformer_encoder_in_float(gelu: str) -> None:
    torch.manual_seed(0)
    net = transformer.encoder(layers=2, gelu=gelu).eval()
    tokens = np.random.default_rng(0).integers(0, 1000, (3, 16))
    keep = (np.arange(16) < np.array([16, 9, 4])[:, None]).astype(np.int64)
    names = list(inspect.signature(net.forward).parameters)
    feeds = dict(zip(names, (tokens, keep), strict=False))
    model = prepare(load(net, example_inputs=feeds))
    data = emit_tflite(model)
    expected = next(iter(run(model, feeds).values()))
    actual = tflite_run(data, feeds, channels_last=False)[0]
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
