"""Where the device's outputs are other ones than this machine's, the first layer that differs is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import exporter
from targets import check, get_target
from targets.agent import onnx_wire, tflite_wire
from targets.transports import TRANSPORTS
from targets.transports.connection import Connection
from targets.transports.local import open_local
from targets.types import Job, Progress, Target

LAYERS = 7


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of convolutions with random weights: a change in one shows in all that follow."""
    folder = tmp_path_factory.mktemp("chain")
    rng = np.random.default_rng(0)
    body, weights = [], []
    for i in range(LAYERS):
        source, channels = ("x", 3) if i == 0 else (f"r{i - 1}", 8)
        body.append(f"c{i} = Conv<pads=[1,1,1,1]>({source}, w{i}, b{i})  r{i} = Relu(c{i})")
        weights.append((f"w{i}", (rng.standard_normal((8, channels, 3, 3)) / 5).astype(np.float32)))
        weights.append((f"b{i}", (rng.standard_normal(8) / 10).astype(np.float32)))
    weights.append(("v", rng.standard_normal((8, 4)).astype(np.float32)))
    last = f"g = GlobalAveragePool(r{LAYERS - 1})  f = Flatten(g)  y = Gemm(f, v)"
    text = '<ir_version: 10, opset_import: ["" : 21]>\nmain (float[N,3,8,8] x) => (float[N,4] y) { '
    proto = onnx.parser.parse_model(text + "  ".join([*body, last]) + " }")
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights)
    onnx.save(proto, folder / "chain.onnx")
    data = {"x": rng.standard_normal((32, 3, 8, 8)).astype(np.float32), "labels": rng.integers(0, 4, 32)}
    made = exporter.export(folder / "chain.onnx", calibration={"x": data["x"]}, evaluation=data, out=folder / "bundle")
    return made.path


def onnx_with_another_weight(data: bytes, layer: int) -> bytes:
    """The integers of the layer's largest weight get another sign."""
    proto = onnx.load_from_string(data)
    convs = [node for node in proto.graph.node if node.op_type == "Conv"]
    makers = {name: node for node in proto.graph.node for name in node.output}
    name = makers[convs[layer].input[1]].input[0]
    (constant,) = [i for i in proto.graph.initializer if i.name == name]
    weight = numpy_helper.to_array(constant).copy()
    weight.flat[np.abs(weight.astype(int)).argmax()] *= -1
    constant.CopyFrom(numpy_helper.from_array(weight, name))
    return proto.SerializeToString()


def tflite_with_another_weight(data: bytes, layer: int) -> bytes:
    """The same in place: the bytes of the weight are found by the interpreter's own view of them."""
    from ai_edge_litert.interpreter import Interpreter

    rows = [row for row in tflite_wire.operators(data) if row["op"] == "CONV_2D"]
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    weight = interpreter.get_tensor(tflite_wire.tensor_indices(data)[rows[layer]["inputs"][1]])
    raw, changed = weight.tobytes(), weight.copy()
    assert data.count(raw) == 1
    changed.flat[np.abs(weight.astype(int)).argmax()] *= -1
    return data.replace(raw, changed.tobytes())


CHANGE = {"onnxruntime": onnx_with_another_weight, "tflite": tflite_with_another_weight}


class Altering:
    """A device that gets another file than was sent, with a manifest that fits it."""

    def __init__(self, inner: Connection, folder: Path, artifact: str, layer: int) -> None:
        self.inner, self.folder, self.artifact, self.layer = inner, folder, artifact, layer

    def __enter__(self) -> Altering:
        self.inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.inner.__exit__(*error)

    def push(self, files: Mapping[str, Path], progress: Progress) -> int:
        manifest = json.loads(files["manifest.json"].read_text())
        (entry,) = [a for a in manifest["artifacts"] if a["name"] == self.artifact]
        data = CHANGE[self.artifact](files[entry["path"]].read_bytes(), self.layer)
        (self.folder / entry["path"]).write_bytes(data)
        entry["sha256"], entry["bytes"] = hashlib.sha256(data).hexdigest(), len(data)
        (self.folder / "manifest.json").write_text(json.dumps(manifest))
        self.sent = {name: files[name] for name in ("manifest.json", entry["path"])}
        return self.inner.push({**files, **{name: self.folder / name for name in self.sent}}, progress)

    def run(self, job: Job, progress: Progress) -> dict[str, Any]:
        result = self.inner.run(job, progress)
        if job.do == "check":  # it hides what it did, so that only the outputs can tell
            for name, path in self.sent.items():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                if name == "manifest.json":
                    result["manifest_sha256"] = digest
                else:
                    result["artifacts"][self.artifact]["sha256"] = digest
        return result

    def pull(self, name: str) -> bytes:
        return self.inner.pull(name)


@pytest.mark.parametrize("artifact", list(CHANGE))
@pytest.mark.parametrize("layer", [0, 3, LAYERS - 1])
def test_a_planted_difference_is_located(
    artifact: str, layer: int, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(target: Target) -> Altering:
        return Altering(open_local(target), tmp_path, artifact, layer)

    monkeypatch.setitem(TRANSPORTS, "ssh", opened)  # type: ignore[arg-type]
    found = check(bundle, get_target("ssh://nobody@nowhere"))
    assert not found["passed"]
    (reason,) = found["reasons"]
    assert reason.startswith(
        f"{artifact}: the outputs are other ones than on this machine; the first layer that differs"
    )
    named = found["artifacts"][artifact]["host"]["layer"]
    data = next(bundle.glob(f"model.{'onnx' if artifact == 'onnxruntime' else 'tflite'}")).read_bytes()
    if artifact == "tflite":
        convs = [row["outputs"][0] for row in tflite_wire.operators(data) if row["op"] == "CONV_2D"]
        assert named["value"] == convs[layer]
    else:
        convs = [row["name"] for row in onnx_wire.nodes(data) if row["op"] == "Conv"]
        assert named["node"] == convs[layer]
    others = set(found["artifacts"]) - {artifact}
    assert all(found["artifacts"][name]["host"]["equal"] == 1.0 for name in others)


@pytest.mark.parametrize("name", ["float.onnx", "model.onnx", "model.tflite"])
def test_files_are_read_as_their_own_libraries_read_them(name: str, bundle: Path) -> None:
    data = (bundle / name).read_bytes()
    if name.endswith(".onnx"):
        graph = onnx.load_from_string(data).graph
        expected = [(n.name, n.op_type, list(n.input), list(n.output)) for n in graph.node]
        assert [tuple(row.values()) for row in onnx_wire.nodes(data)] == expected
        tapped = onnx.load_from_string(onnx_wire.with_outputs(data, ["r0", "r1"]))
        assert [o.name for o in tapped.graph.output] == [*(o.name for o in graph.output), "r0", "r1"]
        with pytest.raises(ValueError, match="truncated"):
            onnx_wire.nodes(data[: len(data) // 2])
        return
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    names = [tensor.name.decode() for tensor in model.subgraphs[0].tensors]
    rows = tflite_wire.operators(data)
    assert [row["outputs"] for row in rows] == [[names[i] for i in op.outputs] for op in model.subgraphs[0].operators]
    kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    codes = [kinds[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
    assert [row["op"] for row in rows] == [codes[op.opcodeIndex] for op in model.subgraphs[0].operators]
    tapped = schema.ModelT.InitFromPackedBuf(tflite_wire.with_outputs(data, [names[-2]]), 0)
    assert list(tapped.subgraphs[0].outputs) == [*model.subgraphs[0].outputs, len(names) - 2]
    with pytest.raises(ValueError, match="not a TFLite file"):
        tflite_wire.operators(b"x" * 40)
