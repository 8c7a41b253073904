"""In how many bits a weight lies in the file and runs in the loaded runtime, told for every form that is written."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from exporter.cli.file_tables import inspection as shown
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.inspection import inspect_file
from exporter.packing import onnx_bytes
from exporter.quantize import apply, make_plan
from exporter.recipe import Quantize
from exporter.rounding import round_weights
from tests.emit.test_low_bits_onnx import convs, linear
from tests.numbers import noise
from tests.quantize.graphs import stats_of

# wishes, smallest -> (stored, runs) of the largest weight in each file; 32 bits are float
CASES = {
    "int8": (Quantize(), False, (8, 8), (8, 8)),
    "int4": (Quantize(weights="int4"), False, (4, 8), (8, 8)),
    "int4, smallest": (Quantize(weights="int4"), True, (4, 8), (4, 8)),
    "int3": (Quantize(weights="int3"), False, (3, 8), (8, 8)),
    "binary": (Quantize(weights="binary"), False, (1, 8), (8, 8)),
    "nf4": (Quantize(weights="nf4"), False, (4, 8), (8, 8)),
    "int4, float": (Quantize(weights="int4", activations="float"), False, (4, 32), (8, 32)),
    "int4, dynamic": (Quantize(weights="int4", activations="dynamic"), False, (4, 8), (4, 4)),
    "int8, dynamic": (Quantize(activations="dynamic"), False, (8, 8), (8, 8)),
    "int4 by 32": (Quantize(weights="int4", activations="dynamic", granularity=32), False, (4, 4), (4, 4)),
    "int3 by 32": (Quantize(weights="int3", activations="dynamic", granularity=32), False, (3, 4), (4, 4)),
    "int2 by 64": (Quantize(weights="int2", activations="dynamic", granularity=64, symmetric=True),
                   False, (2, 2), (4, 4)),
    "nf4 by 32": (Quantize(weights="nf4", activations="dynamic", granularity=32), False, (4, 8), (32, 32)),
    "float16": (Quantize(weights="float16", activations="float"), False, (16, 32), (16, 32)),
    "float": (Quantize(weights="float", activations="float"), False, (32, 32), (32, 32)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_form(name: str, tmp_path: Path) -> None:
    wishes, smallest, *expected = CASES[name]
    static = wishes.activations == "int8"
    model = convs() if static or wishes.activations == "float" else linear()
    if model.graph.inputs[0].shape[1] == "A":
        model.graph.inputs[0].shape = ir.Shape([2, 5, 128])
    stats = stats_of(model, {"x": noise(4, 8, 8, 8)}) if static else {}
    rounded = round_weights(model, make_plan(model, stats, wishes, samples=False))
    quantized = apply(model, rounded)
    (tmp_path / "model.onnx").write_bytes(onnx_bytes(emit_onnx(quantized, rounded.plan), lean=True))  # as it ships
    data = emit_tflite(quantized, rounded.plan, smallest=smallest)
    (tmp_path / "model.tflite").write_bytes(data)
    largest = "w" if "w" in model.graph.initializers else "p"
    for file, wanted in zip(("model.onnx", "model.tflite"), expected, strict=True):
        uses = {use.name: use for use in inspect_file(tmp_path / file).kernels.weights}
        use = uses[largest]
        assert (use.stored, use.runs) == wanted
        assert use.count == model.graph.initializers[largest].const_value.size
        if use.runs < 8:
            assert use.label.startswith("runs in low bits")
        elif use.stored < use.runs:
            assert use.label.startswith("storage only")


def test_it_is_shown(tmp_path: Path) -> None:
    model = convs()
    plan = make_plan(model, stats_of(model, {"x": noise(4, 8, 8, 8)}), Quantize(weights="int4"))
    ir.save(emit_onnx(apply(model, plan), plan), tmp_path / "model.onnx")
    tables = [part for part in shown(inspect_file(tmp_path / "model.onnx")) if hasattr(part, "columns")]
    cells = [cell for table in tables for column in table.columns for cell in column.cells]
    assert "storage only, runs in 8 bits: QLinearConv" in cells
