"""onnxruntime's profile, added up."""

from __future__ import annotations

from targets.agent.profiling import summarize


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
    assert found["total_ms"] == 0.1
    assert found["ops"][0] == {"op": "QLinearConv", "kind": "integer", "count": 1, "ms": 0.06, "share": 0.6}
    assert found["float_nodes"] == [{"name": "norm", "op": "LayerNormalization", "ms": 0.02}]
    assert found["layout_nodes"] == [{"name": "turn", "op": "Transpose", "ms": 0.005}]
    assert {row["kind"] for row in found["ops"]} == {"boundary", "integer", "layout", "float"}


def test_a_float_model_has_no_islands() -> None:
    found = summarize([event("conv", "Conv", 0, 10, "float")], 0)
    assert found["float_nodes"] == []
    assert found["nodes"][0]["kind"] == "float"
