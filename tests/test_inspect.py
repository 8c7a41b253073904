"""inspect tells what is in a file and what the runtime makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter import emit_tflite, load
from exporter.errors import KbitError, LoadError, PlanError
from exporter.inspection import TensorScheme, inspect_file, to_dict
from exporter.types import PerChannel, Plan, QParams, Scheme, TensorPlan


class Graph:
    """A QDQ graph written node by node."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"n_{output}", **attributes))
        return output

    def through(self, value: str, scale: float, zero_point: np.integer) -> str:
        """QuantizeLinear, DequantizeLinear."""
        numbers = [
            self.constant(f"{value}_scale", np.array(scale, np.float32)),
            self.constant(f"{value}_zero_point", np.array(zero_point)),
        ]
        self.node("QuantizeLinear", [value, *numbers], f"{value}_q")
        return self.node("DequantizeLinear", [f"{value}_q", *numbers], f"{value}_dq")

    def weight(self, name: str, array: npt.NDArray[np.generic], scale: npt.NDArray[np.float32]) -> str:
        zero_point = np.zeros(scale.shape, array.dtype)
        numbers = [self.constant(f"{name}_scale", scale), self.constant(f"{name}_zero_point", zero_point)]
        return self.node("DequantizeLinear", [self.constant(name, array), *numbers], f"{name}_dq", axis=0)

    def save(self, path: Path, shape: list[int | str], result: str, rank: int) -> Path:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, [None] * rank)]
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path


def conv_then_tanh(path: Path) -> Path:
    """A convolution that runs on integers, and a Tanh that no integer kernel of onnxruntime takes."""
    rng = np.random.default_rng(0)
    g = Graph()
    x = g.through("x", 0.02, np.uint8(128))
    scale = np.linspace(0.01, 0.02, 8, dtype=np.float32)
    w = g.weight("w", rng.integers(-127, 127, (8, 3, 3, 3)).astype(np.int8), scale)
    b = g.weight("b", rng.integers(-99, 99, 8).astype(np.int32), scale * np.float32(0.02))
    relu = g.node("Relu", [g.node("Conv", [x, w, b], "conv", pads=[1, 1, 1, 1])], "relu")
    tanh = g.node("Tanh", [g.through(relu, 0.02, np.uint8(0))], "tanh")
    return g.save(path, ["batch", 3, 8, 8], g.through(tanh, 1 / 128, np.uint8(128)), 4)


def test_onnx(tmp_path: Path) -> None:
    found = inspect_file(conv_then_tanh(tmp_path / "model.onnx"))
    assert found.kind == "onnx"
    assert [(p.name, p.dtype, p.shape) for p in found.inputs] == [("x", "float32", ("batch", 3, 8, 8))]
    assert [p.name for p in found.outputs] == ["tanh_dq"]
    assert found.ops == {"Conv": 1, "DequantizeLinear": 5, "QuantizeLinear": 3, "Relu": 1, "Tanh": 1}
    assert found.bytes_by_dtype["int8"] == 8 * 3 * 3 * 3 + 8  # weights and their zero points
    schemes = {row.name: row for row in found.schemes}
    assert list(schemes) == ["x_q", "w", "b", "relu_q", "tanh_q"]
    low, high = np.float32(0.01), np.float32(0.02)
    assert schemes["w"] == TensorScheme("w", "weight", 8, "channel 0", (float(low), float(high)), (0, 0))
    assert (schemes["b"].role, schemes["b"].bits) == ("bias", 32)
    assert schemes["x_q"] == TensorScheme("x_q", "activation", 8, "tensor", (float(high), float(high)), (128, 128))


def test_onnx_kernels_that_really_run(tmp_path: Path) -> None:
    kernels = inspect_file(conv_then_tanh(tmp_path / "model.onnx")).kernels
    assert kernels is not None
    assert kernels.problem == ""
    assert kernels.ops["com.microsoft:QLinearConv"] == 1
    assert "Conv" not in kernels.ops
    assert [(node.name, node.op) for node in kernels.float_nodes] == [("n_tanh", "Tanh")]
    assert kernels.integer >= 1
    assert kernels.in_float == 1


def test_a_float_fallback_shows(tmp_path: Path) -> None:
    """int4 weights straight into DequantizeLinear: onnxruntime computes this convolution in float, without a word."""
    rng = np.random.default_rng(0)
    g = Graph()
    x = g.through("x", 0.02, np.uint8(128))
    w = g.weight("w", rng.integers(-7, 7, (8, 3, 3, 3)).astype(ml_dtypes.int4), np.full(8, 0.01, np.float32))
    relu = g.node("Relu", [g.node("Conv", [x, w], "conv")], "relu")
    path = g.save(tmp_path / "w4.onnx", [1, 3, 8, 8], g.through(relu, 0.02, np.uint8(0)), 4)
    found = inspect_file(path)
    assert {row.name: row.bits for row in found.schemes}["w"] == 4
    assert found.kernels is not None
    assert any(node.op in ("Conv", "FusedConv") for node in found.kernels.float_nodes)


def test_a_file_that_the_runtime_refuses_is_still_described(tmp_path: Path) -> None:
    g = Graph()
    g.nodes.append(helper.make_node("Nonesuch", ["x"], ["y"], domain="com.example"))
    inputs, outputs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y"))
    graph = helper.make_graph(g.nodes, "g", [inputs], [outputs])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), tmp_path / "m.onnx")
    found = inspect_file(tmp_path / "m.onnx")
    assert found.ops == {"com.example:Nonesuch": 1}
    assert found.kernels is not None
    assert "Nonesuch" in found.kernels.problem
    assert "\n" not in found.kernels.problem


def test_tflite(tmp_path: Path) -> None:
    """The same graph with int8 activations, as kbit plans it: everything integer but for the edges."""
    rng = np.random.default_rng(0)
    g = Graph()
    x = g.through("x", 0.02, np.int8(-3))
    scale = np.linspace(0.01, 0.02, 8, dtype=np.float32)
    w = g.weight("w", rng.integers(-127, 127, (8, 3, 3, 3)).astype(np.int8), scale)
    b = g.weight("b", rng.integers(-99, 99, 8).astype(np.int32), scale * np.float32(0.02))
    relu = g.node("Relu", [g.node("Conv", [x, w, b], "conv", pads=[1, 1, 1, 1])], "relu")
    y = g.node("Exp", [g.through(relu, 0.02, np.int8(-128))], "y")
    path = tmp_path / "model.tflite"
    path.write_bytes(emit_tflite(load(str(g.save(tmp_path / "model.onnx", ["batch", 3, 8, 8], y, 4)))))
    found = inspect_file(path)
    assert found.kind == "tflite"
    assert [(p.name, p.dtype) for p in found.inputs] == [("x", "float32")]
    assert found.ops["CONV_2D"] == 1
    assert found.bytes_by_dtype["int8"] == 8 * 3 * 3 * 3
    assert found.kernels is not None
    assert found.kernels.integer == 1
    assert [node.op for node in found.kernels.float_nodes] == ["EXP"]
    weight = next(row for row in found.schemes if row.role == "weight")
    assert (weight.bits, weight.per, weight.scale) == (8, "channel 0", (float(scale[0]), float(scale[-1])))
    bias = next(row for row in found.schemes if row.role == "bias")
    assert (bias.bits, bias.zero_point) == (32, (0, 0))


def test_plan(tmp_path: Path) -> None:
    scheme = Scheme(8, symmetric=True, grain=PerChannel(0))
    qparams = QParams(scheme, np.array([0.5, 0.25], np.float32), np.zeros(2, np.int32))
    rows = [TensorPlan("w", "weight", qparams, "a weight"), TensorPlan("y", "activation", None, "Tanh is float")]
    plan = Plan({row.name: row for row in rows}, {"n_tanh": "no integer kernel"})
    (tmp_path / "plan.json").write_text(plan.to_json())
    found = inspect_file(tmp_path / "plan.json")
    assert found.schemes == (
        TensorScheme("w", "weight", 8, "channel 0", (0.25, 0.5), (0, 0), "a weight"),
        TensorScheme("y", "activation", 0, "", (0.0, 0.0), (0, 0), "Tanh is float"),
    )
    assert [(node.name, node.why) for node in found.float_nodes] == [("n_tanh", "no integer kernel")]
    assert json.loads(json.dumps(to_dict(found)))["schemes"][0]["name"] == "w"


@pytest.mark.parametrize(
    ("name", "content", "error", "line"),
    [
        ("model.onnx", b"\x08\xff\xfenot a model", LoadError, "not an ONNX model"),
        ("plan.json", b"{}", PlanError, "not a plan"),
        ("plan.json", b"\xff", PlanError, "cannot read the plan"),
        ("model.tflite", b"not a model", KbitError, "model.tflite"),
        ("model.bin", b"", KbitError, "unknown kind of file '.bin'"),
        ("", b"", KbitError, "no such file or folder"),
    ],
)
def test_what_is_no_such_file_is_refused(
    name: str, content: bytes, error: type[KbitError], line: str, tmp_path: Path
) -> None:
    path = tmp_path / (name or "absent.onnx")
    if name:
        path.write_bytes(content)
    with pytest.raises(error, match=line):
        inspect_file(path)
