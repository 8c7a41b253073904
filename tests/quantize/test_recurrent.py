"""LSTM, GRU and RNN with integer weights: one plan, both files, and what each runtime makes of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from exporter.cli.file_tables import inspection as shown
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.inspection import inspect_file
from exporter.loading import from_proto
from exporter.parity.numbers import compare_numbers
from exporter.preparing import prepare
from exporter.quantize import apply, make_plan
from exporter.recipe import Override, Quantize
from exporter.reference import run
from exporter.rounding import round_weights
from exporter.types import PerChannel, PerTensor, Rounded
from tests.ops.text import feeds_of, graph, run_tflite

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
INPUT = 8
MAKERS = {name: lambda rng, shape: rng.standard_normal(shape) / 8 for name in "wrbp"}
MAKERS["l"] = lambda rng, shape: rng.integers(1, 6, shape)
DYNAMIC = Quantize(activations="dynamic")
BOTH = 'direction = "bidirectional"'


def layer(
    op: str, steps: int = 6, hidden: int = 64, *, inputs: str = "x, w, r, b", attributes: str = "", computed: str = "x"
) -> ir.Model:
    """One prepared layer with all its outputs; inputs that ``computed`` does not name are constants."""
    directions = 2 if "bidirectional" in attributes else 1
    size, state = GATES[op] * hidden, f"float[{directions},N,{hidden}]"
    shapes = {
        "x": f"float[{steps},N,{INPUT}]", "w": f"float[{directions},{size},{INPUT}]", "l": "int32[N]", "h": state,
        "r": f"float[{directions},{size},{hidden}]", "b": f"float[{directions},{2 * size}]", "c": state,
        "p": f"float[{directions},{3 * hidden}]",
    }  # fmt: skip
    given = [name.strip() for name in inputs.split(",")]
    made = [f"float[{steps},{directions},N,{hidden}] y", f"{state} yh", *([f"{state} yc"] if op == "LSTM" else [])]
    names = ", ".join(output.split()[-1] for output in made)
    attributes = ", ".join(a for a in (f"hidden_size = {hidden}", attributes) if a)
    declared = ", ".join(f"{shapes[name]} {name}" for name in given if name)
    text = f"({declared}) => ({', '.join(made)}) {{ {names} = {op}<{attributes}>({inputs}) }}"
    return prepare(from_proto(graph(text, constants=[n for n in "wrbp" if n not in computed], makers=MAKERS)))


def rounded(model: ir.Model, wishes: Quantize) -> Rounded:
    return round_weights(model, make_plan(model, {}, wishes))


def apart(model: ir.Model, planned: Rounded, data: bytes, batch: int) -> tuple[float, float]:
    """How far ONNX Runtime's and TFLite's files are from the float layer with the plan's weights, RMS, relative."""
    quantized = apply(model, planned)
    feeds = feeds_of(ir.to_proto(model), batch, MAKERS, seed=batch)
    exact, theirs, ours = run(quantized, feeds), run(emit_onnx(quantized, planned.plan), feeds), run_tflite(data, feeds)
    power = sum(float(np.square(v).sum()) for v in exact.values())
    first, second = (
        sum(float(np.square(found[n] - v).sum()) for n, v in exact.items()) / power for found in (theirs, ours)
    )
    return first**0.5, second**0.5


def uses(model: ir.Model, planned: Rounded, data: bytes, folder: Path) -> list[set[str]]:
    """Labels of the weights in either file, as they run when it is loaded."""
    ir.save(emit_onnx(apply(model, planned), planned.plan), folder / "model.onnx")
    (folder / "model.tflite").write_bytes(data)
    found = []
    for name in ("model.onnx", "model.tflite"):
        kernels = inspect_file(folder / name).kernels
        assert kernels is not None
        assert sum(w.count for w in kernels.weights) == sum(i.size for i in planned.integers.values())
        found.append({w.label for w in kernels.weights})
    return found


INT8, STORED = {"runs in 8 bits"}, {"storage only, runs in float"}


@pytest.mark.parametrize("steps", [6, 70], ids=["written out", "looped"])
@pytest.mark.parametrize("attributes", ["", BOTH, 'direction = "reverse"'], ids=["forward", "both ways", "backwards"])
@pytest.mark.parametrize("op", GATES)
def test_int8(op: str, attributes: str, steps: int, tmp_path: Path) -> None:
    model = layer(op, steps, attributes=attributes)
    planned = rounded(model, DYNAMIC)
    grains = [tensor.qparams.scheme.grain for tensor in planned.plan.tensors.values() if tensor.qparams is not None]
    assert grains == [PerChannel(1), PerChannel(1)]
    assert len(planned.plan.dynamic_nodes) == 1
    quantized = apply(model, planned)
    data = emit_tflite(quantized, planned.plan)
    for onnx in (quantized, emit_onnx(quantized, planned.plan)):
        numbers = compare_numbers(planned.plan, onnx, data)
        assert not numbers.different + numbers.missing
        assert numbers.integers == sum(i.size for i in planned.integers.values())
    for batch in (1, 3):
        assert max(apart(model, planned, data, batch)) < 0.015
    assert uses(model, planned, data, tmp_path) == [INT8 if op == "LSTM" else STORED, INT8]
    codes = Counter(o.code for subgraph in read_tflite(data).subgraphs for o in subgraph.operators)
    assert codes["WHILE"] == (0 if steps == 6 else 2 if attributes == BOTH else 1)
    assert not codes["DEQUANTIZE"]


@pytest.mark.parametrize("steps", [6, 70], ids=["written out", "looped"])
@pytest.mark.parametrize(("op", "activations"), [*((op, "float") for op in GATES), ("LSTM", "int16")])
def test_only_stored(op: str, activations: str, steps: int, tmp_path: Path) -> None:
    model = layer(op, steps, attributes=BOTH)
    planned = rounded(model, Quantize(activations=activations))  # type: ignore[arg-type]
    assert not planned.plan.dynamic_nodes
    data = emit_tflite(apply(model, planned), planned.plan)
    numbers = compare_numbers(planned.plan, emit_onnx(apply(model, planned), planned.plan), data)
    assert not numbers.different + numbers.missing
    assert max(apart(model, planned, data, 3)) < 1e-5
    assert uses(model, planned, data, tmp_path) == [STORED, STORED]


FEW = {  # ONNX Runtime's LSTM, its GRU, TFLite
    "int4": ("storage only, runs in 8 bits", "runs in low bits (4)"),
    "int3": ("storage only, runs in 8 bits", "runs in low bits (4)"),
    "ternary": ("storage only, runs in 8 bits", "runs in low bits (2)"),
    "nf4": ("storage only, runs in 8 bits", "runs in 8 bits"),
}


@pytest.mark.parametrize("weights", FEW)
@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_few_bits(op: str, weights: str, tmp_path: Path) -> None:
    model = layer(op)
    planned = rounded(model, Quantize(weights=weights, activations="dynamic"))  # type: ignore[arg-type]
    data = emit_tflite(apply(model, planned), planned.plan)
    assert max(apart(model, planned, data, 3)) < 0.02
    numbers = compare_numbers(planned.plan, emit_onnx(apply(model, planned), planned.plan), data)
    assert not numbers.different + numbers.missing
    theirs, ours = FEW[weights]
    assert uses(model, planned, data, tmp_path) == [{theirs} if op == "LSTM" else STORED, {ours}]
    wide = rounded(model, DYNAMIC)
    sizes = [(emit_tflite(apply(model, r), r.plan), emit_onnx(apply(model, r), r.plan)) for r in (planned, wide)]
    spared = 0 if weights == "nf4" else 0.45 * planned.integers["r"].size  # TFLite has no such codebook
    assert len(sizes[0][0]) <= len(sizes[1][0]) - spared
    held = [sum(v.const_value.nbytes for v in onnx.graph.initializers.values()) for _, onnx in sizes]  # type: ignore[union-attr]
    assert held[0] < held[1] - 0.4 * planned.integers["r"].size


SPECIAL = {
    "no bias": ("x, w, r", ""),
    "state": ("x, w, r, b, , h, c", ""),
    "state, both ways": ("x, w, r, b, , h, c", BOTH),
    "lengths": ("x, w, r, b, l, h, c", 'direction = "reverse"'),
    "peepholes": ("x, w, r, b, , , , p", ""),
    "clip": ("x, w, r, b", "clip = 0.3"),
    "coupled": ("x, w, r, b", "input_forget = 1"),
    "functions": ("x, w, r, b", 'activations = ["HardSigmoid", "ScaledTanh", "LeakyRelu"], '
                  "activation_alpha = [0.25, 1.5, 0.1], activation_beta = [0.4, 0.6]"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIAL)
def test_every_feature_of_an_lstm(name: str) -> None:
    """DynamicQuantizeLSTM knows all that LSTM does."""
    inputs, attributes = SPECIAL[name]
    model = layer("LSTM", inputs=inputs, attributes=attributes, computed="xhc")
    planned = rounded(model, DYNAMIC)
    quantized = apply(model, planned)
    assert [n.op_type for n in emit_onnx(quantized, planned.plan).graph] == ["DynamicQuantizeLSTM"]
    for batch in (1, 3):
        assert max(apart(model, planned, emit_tflite(quantized, planned.plan), batch)) < 0.015


def test_few_units_keep_the_float_kernel() -> None:
    model = layer("LSTM", hidden=48)
    planned = rounded(model, DYNAMIC)
    codes = [n.op_type for n in emit_onnx(apply(model, planned), planned.plan).graph]
    assert "LSTM" in codes
    assert "DequantizeLinear" not in codes, "would be repeated in every run"


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_one_scale_for_all(op: str) -> None:
    model = layer(op, attributes=BOTH)
    planned = rounded(model, Quantize(activations="dynamic", granularity="tensor"))
    assert {t.qparams.scheme.grain for t in planned.plan.tensors.values() if t.qparams is not None} == {PerTensor()}
    quantized = apply(model, planned)
    data = emit_tflite(quantized, planned.plan)
    numbers = compare_numbers(planned.plan, quantized, data)
    assert not numbers.different + numbers.missing
    assert max(apart(model, planned, data, 3)) < 0.015


def test_groups_become_rows() -> None:
    planned = rounded(layer("GRU"), Quantize(activations="dynamic", granularity=32, rounder="gptq"))
    for tensor in planned.plan.tensors.values():
        assert tensor.qparams is not None
        assert tensor.qparams.scheme.grain == PerChannel(1)
        assert "each gate row" in tensor.why
        assert tensor.rounder == "mse", "it needs no samples of what a step reads"


def test_what_stays_in_float() -> None:
    wished = Quantize(activations="dynamic", keep_float=("*",))
    model = layer("LSTM")
    assert not make_plan(model, {}, wished).tensors
    kept = make_plan(model, {}, Quantize(override=(Override("LSTM", weights="float", activations="float"),)))
    assert not kept.tensors
    assert "override 'LSTM'" in next(iter(kept.float_nodes.values()))
    computed = make_plan(layer("LSTM", computed="xr"), {}, Quantize())
    assert not computed.tensors
    assert "constant weights" in next(iter(computed.float_nodes.values()))


def test_smallest_file_has_a_loop() -> None:
    model = layer("GRU", 20)
    planned = rounded(model, DYNAMIC)
    quantized = apply(model, planned)
    fast, small = (emit_tflite(quantized, planned.plan, smallest=smallest) for smallest in (False, True))
    assert len(small) < 0.9 * len(fast)
    assert max(apart(model, planned, small, 1)) < 0.015


def test_another_integer_is_seen() -> None:
    model = layer("GRU", attributes=BOTH)
    planned = rounded(model, DYNAMIC)
    data = emit_tflite(apply(model, planned), planned.plan)
    planned.integers["r"][1, -1, -1] += 1
    numbers = compare_numbers(planned.plan, emit_onnx(apply(model, planned), planned.plan), data)
    assert numbers.different == ("r: integers differ",)


def test_people_see_a_layer_and_not_its_steps(tmp_path: Path) -> None:
    model = layer("LSTM", 20)
    planned = rounded(model, DYNAMIC)
    path = tmp_path / "model.tflite"
    path.write_bytes(emit_tflite(apply(model, planned), planned.plan))
    found = inspect_file(path)
    assert found.kernels is not None
    assert found.kernels.integer == found.ops["FULLY_CONNECTED"] == 20
    tables = [part for part in shown(found) if hasattr(part, "columns")]
    rows = [cell for table in tables for column in table.columns for cell in column.cells]
    assert rows.count("LOGISTIC") == 1
    assert any(str(cell).endswith(f"and {found.ops['LOGISTIC'] - 1} more") for cell in rows)


@pytest.mark.parametrize("steps", [6, 70], ids=["written out", "looped"])
def test_float16(steps: int) -> None:
    model = layer("LSTM", steps)
    planned = rounded(model, Quantize(weights="float16", activations="float"))
    halves, whole = emit_tflite(apply(model, planned), planned.plan), emit_tflite(model)
    assert max(apart(model, planned, halves, 3)) < 1e-5
    assert len(halves) < len(whole) - 1.9 * GATES["LSTM"] * 64 * (64 + INPUT), "in the body of the loop, too"
