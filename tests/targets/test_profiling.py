"""onnxruntime's profile, added up; TFLite's operators, by prefixes of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from targets.agent import tflite_wire
from targets.agent.profiling import rising, summarize
from tests.device.loopback import small_bundle


def event(name: str, op: str, index: int, micros: int, dtype: str) -> dict:
    arguments = {"op_name": op, "node_index": str(index), "input_type_shape": [{dtype: [1, 8]}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": micros, "args": arguments}


def test_islands_and_moves_are_named_with_their_cost() -> None:
    run = [
        event("q", "QuantizeLinear", 0, 10, "float"),
        event("conv", "QLinearConv", 1, 60, "uint8"),
        event("turn", "Transpose", 2, 5, "uint8"),
        event("back", "DequantizeLinear", 3, 5, "uint8"),
        event("norm", "LayerNormalization", 4, 20, "float"),
    ]
    cold = [dict(row, dur=10 * row["dur"]) for row in run]
    other = [{"cat": "Session", "name": "model_run", "dur": 1}, {"cat": "Node", "name": "conv_fence_before", "dur": 9}]
    found = summarize([*other, *cold, *run, *run], 1)
    assert found["runs"] == 2
    assert found["method"] == "profiler"
    assert found["total_ms"] == 0.1
    assert found["ops"][0] == {"op": "QLinearConv", "kind": "integer", "count": 1, "ms": 0.06, "share": 0.6}
    assert found["float_nodes"] == [{"name": "norm", "op": "LayerNormalization", "ms": 0.02}]
    assert found["layout_nodes"] == [{"name": "turn", "op": "Transpose", "ms": 0.005}]
    assert {row["kind"] for row in found["ops"]} == {"boundary", "integer", "layout", "float"}


def test_a_float_model_has_no_islands() -> None:
    found = summarize([event("conv", "Conv", 0, 10, "float")], 0)
    assert found["float_nodes"] == []
    assert found["nodes"][0]["kind"] == "float"


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 2, 3], [1, 2, 3]), ([1, 3, 2, 4], [1, 2.5, 2.5, 4]), ([3, 2, 1], [2, 2, 2]), ([], [])],
)
def test_times_of_longer_prefixes_never_fall(values: list, expected: list) -> None:
    assert rising(values) == pytest.approx(expected)


def test_a_prefix_computes_what_the_whole_model_computes_up_to_there(tmp_path: Path) -> None:
    data = (small_bundle(tmp_path / "bundle") / "model.tflite").read_bytes()
    operators = tflite_wire.operators(data)
    tapped = {row["outputs"][0] for row in operators[:-1]}
    whole = invoked(tflite_wire.with_outputs(data, sorted(tapped)))
    for count in range(1, len(operators)):
        cut = tflite_wire.shortened(data, count)
        assert tflite_wire.operators(cut) == operators[:count]
        for name, array in invoked(cut).items():
            np.testing.assert_array_equal(array, whole[name], strict=True)


def invoked(data: bytes) -> dict:
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        values = np.random.default_rng(0).random(detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
