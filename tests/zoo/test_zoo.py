"""Architectures that people ship, from torch to both runtimes: float and int8."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter import graph
from exporter.calibration import calibrate
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.loading import load
from exporter.parity.numbers import compare_numbers
from exporter.preparing import INT8_PASSES, prepare
from exporter.pruning.structured import prune_channels, wanted_saliency
from exporter.quantize import apply, make_plan
from exporter.reference import run
from tests.pruning.dead import deadened
from tests.zoo.cases import CASES, Case, build, samples

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module", params=CASES)
def loaded(request: pytest.FixtureRequest) -> tuple[Case, ir.Model]:
    case = CASES[request.param]
    return case, load(build(case), example_inputs=samples(case, 3, 0))


def tflite(data: bytes, feeds: Arrays, name: str, *, channels_last: bool) -> np.ndarray:
    """Output ``name``, channels first."""
    turned = {n: a.transpose(0, 2, 3, 1) if channels_last and a.ndim == 4 else a for n, a in feeds.items()}
    found: Arrays = Interpreter(model_content=data, num_threads=1).get_signature_runner()(**turned)
    array = found[name]
    return array.transpose(0, 3, 1, 2) if channels_last and array.ndim == 4 else array


def onnx(model: ir.Model, feeds: Arrays, name: str) -> np.ndarray:
    found: np.ndarray = run(model, feeds)[name]
    return found


def first_output(model: ir.Model) -> str:
    return model.graph.outputs[0].name or ""


def transposes(data: bytes) -> int:
    return sum(o.code == "TRANSPOSE" for s in read_tflite(data).subgraphs for o in s.operators)


def test_float(loaded: tuple[Case, ir.Model]) -> None:
    case, model = loaded
    model, name = prepare(model), first_output(model)
    for channels_last in (False, True):
        data = emit_tflite(model, channels_last=channels_last)
        for batch in (1, 3):
            feeds = samples(case, batch, 5)
            expected = onnx(model, feeds, name)
            actual = tflite(data, feeds, name, channels_last=channels_last)
            assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
    assert transposes(data) <= case.transposes


def test_int8(loaded: tuple[Case, ir.Model]) -> None:
    case, model = loaded
    model, name = prepare(model, INT8_PASSES), first_output(model)
    plan = make_plan(model, calibrate(model, [samples(case, 16, seed) for seed in range(8)]))
    in_float = {n.op_type for n in model.graph if (n.name or n.outputs[0].name) in plan.float_nodes}
    assert in_float == case.floats
    quantized = apply(model, plan)
    data = emit_tflite(quantized, plan, channels_last=True)
    assert transposes(data) <= case.transposes
    numbers = compare_numbers(plan, quantized, data)
    assert not numbers.different
    feeds = samples(case, 100, 3)
    ours, theirs = onnx(emit_onnx(quantized, plan), feeds, name), tflite(data, feeds, name, channels_last=True)
    real = onnx(model, feeds, name)
    if case.classes is not None:
        assert np.mean(ours.argmax(case.classes) == theirs.argmax(case.classes)) >= 0.99
    for found in (ours, theirs):
        ratio = np.square(real - real.mean()).sum() / np.square(found - real).sum()
        assert 10 * np.log10(ratio) > case.decibels, "SQNR, dB"
    if not case.floats:
        codes = [o.code for o in read_tflite(data).operators]
        assert codes.count("DEQUANTIZE") == len(model.graph.outputs), "integers from end to end"


def test_channels_that_do_nothing_are_pruned_without_a_trace(loaded: tuple[Case, ir.Model]) -> None:
    """Convolutions, and hidden layers of an MLP that each token goes through."""
    case, model = loaded
    model = deadened(prepare(model, INT8_PASSES), 3)
    judges = [{n: np.abs(np.asarray(graph.constant(model.graph.initializers[n]))) for n in wanted_saliency(model)}]
    small, before, after = prune_channels(model, 0.1, 1, judges)
    assert after <= 0.9 * before
    feeds, name = samples(case, 2, 5), first_output(model)
    expected = onnx(model, feeds, name)
    for actual in (onnx(small, feeds, name), tflite(emit_tflite(small), feeds, name, channels_last=False)):
        assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
