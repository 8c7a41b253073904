"""The certificate: one set of numbers is proven, and a planted difference is found and named."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import exporter
from exporter.cli import main
from exporter.emit._slice import open_parts
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.errors import BundleError
from exporter.parity import certify
from exporter.parity.numbers import compare_numbers
from exporter.parity.runs import compare_operators, onnx_trace
from exporter.quantize import apply, make_plan
from exporter.report import render
from tests.numbers import noise
from tests.quantize.graphs import model_of, stats_of
from tests.test_bundle import export, small_model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    return export(folder, folder / "out")


def altered(bundle: Path, out: Path, change: Callable[[Any], None]) -> Path:
    """A copy whose TFLite file was changed by someone who also mended the manifest."""
    shutil.copytree(bundle, out)
    path = out / "model.tflite"
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    change(model)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    manifest = json.loads((out / "manifest.json").read_text())
    (entry,) = (a for a in manifest["artifacts"] if a["name"] == "tflite")
    entry |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def tensor(model: Any, name: str) -> Any:
    (found,) = (t for t in model.subgraphs[0].tensors if t.name.decode() == name)
    return found


def change_weight(model: Any) -> None:
    weight = model.buffers[tensor(model, "w_dequantized").buffer]
    weight.data = np.array(weight.data)
    weight.data[5] = 100 if np.int8(weight.data[5]) < 0 else 156  # far from what it was


def change_scale(model: Any) -> None:
    quantization = tensor(model, "g").quantization
    quantization.scale = np.array([np.nextafter(quantization.scale[0], np.float32(1))], np.float32)


def test_an_exported_bundle_carries_its_certificate(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["parity"]["identical"]
    assert manifest["parity"]["numbers"] | {"different": [], "missing": []} == {
        "activations": 5, "weights": 2, "biases": 1, "integers": 8 * 27 + 8 + 8 * 4, "different": [], "missing": [],
    }  # fmt: skip
    operators = json.loads((bundle / "parity.json").read_text())["operators"]
    assert [o["code"] for o in operators if o["equal"] == 1] == [o["code"] for o in operators]
    assert {"CONV_2D", "MEAN", "FULLY_CONNECTED"} <= {o["code"] for o in operators}
    exporter.check(bundle)


@pytest.mark.parametrize(
    ("change", "said"),
    [(change_weight, "w: integers differ"), (change_scale, "g: scale differs from the plan in TFLite")],
)
def test_a_planted_difference_is_named(
    change: Callable[[Any], None], said: str, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = altered(bundle, tmp_path / "bundle", change)
    assert main(["parity", str(folder), "--samples", "20"]) == 1
    out = capfd.readouterr().out
    assert said in out
    assert "NOT the same numbers" in out
    body = json.loads((folder / "parity.json").read_text())
    assert body["numbers"]["different"] == [said]
    if change is change_weight:
        assert [o["code"] for o in body["operators"] if o["equal"] < 1] == ["CONV_2D"], "the others are not to blame"
        assert body["parts_at"][0] == "r"
    assert "Not the same numbers" in render(folder).read_text()


def test_another_python(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    found = certify(folder, samples=10, python=sys.executable).others
    (mine,) = (spread for name, spread in found.items() if name.startswith("ai_edge_litert "))
    assert (mine.samples, mine.equal) == (10, 1.0)
    assert {"LiteRT without XNNPACK", "LiteRT reference kernels"} < set(found)


def test_one_artifact_has_nothing_to_compare(tmp_path: Path) -> None:
    data = {"image": np.zeros((8, 3, 8, 8), np.float32)}
    model = small_model(tmp_path / "m.onnx")
    made = exporter.export(model, calibration=data, out=tmp_path / "out", runtimes=["tflite"])
    with pytest.raises(BundleError, match="no onnxruntime artifact"):
        certify(made.path)


def test_a_feature_map_flattened_channels_last_is_the_same_numbers() -> None:
    text = "main (float[N,4,2,2] x) => (float[N,3] y) { r = Relu(x) f = Reshape(r, rows) y = MatMul(f, w) }"
    model = model_of(text, rows=np.array([0, 16]), w=noise(16, 3))
    samples = [{"x": noise(1, 4, 2, 2) + i} for i in range(2)]
    plan = make_plan(model, stats_of(model, samples[0]))
    quantized = apply(model, plan)
    data = emit_tflite(quantized, channels_last=True)
    assert not compare_numbers(plan, quantized, data).different
    turned = [{"x": s["x"].transpose(0, 2, 3, 1)} for s in samples]
    trace = onnx_trace(emit_onnx(quantized), plan, samples)
    operators, _, _ = compare_operators(open_parts(data), data, trace, turned)
    assert {o.code: o.equal for o in operators}["FULLY_CONNECTED"] == 1


@pytest.mark.parametrize("kind", ["int8", "int16"])
def test_integer_outputs_are_compared_in_their_own_steps(tmp_path: Path, kind: str) -> None:
    """And with int16 the whole bundle goes through checker, certificate and report."""
    samples = np.random.default_rng(1).standard_normal((40, 3, 8, 8)).astype(np.float32)
    data = {"image": samples, "labels": np.arange(40) % 4}
    keys = {"calibration": {"image": samples}, "evaluation": data, "activations": kind, "io": kind}
    made = exporter.export(small_model(tmp_path / "small.onnx"), out=tmp_path / "out", **keys)
    artifacts = {a["name"]: a for a in made.manifest["artifacts"]}
    for name in ("onnxruntime", "tflite"):
        assert {t["dtype"] for t in (*artifacts[name]["inputs"], *artifacts[name]["outputs"])} == {kind}
    body = json.loads((made.path / "parity.json").read_text())
    assert body["numbers"]["different"] == []
    assert body["operators"]
    assert body["whole"]["steps"][3] == 0, "no output is more than two steps apart"
    check = json.loads((made.path / "check.json").read_text())
    assert check["passed"]
    assert check["agreement"]["top1"] == 1
    gains = json.loads((made.path / "analysis.json").read_text())["no_gains"]
    assert any(each["activation_bits"] == 16 and "float" in each["reason"] for each in gains) == (kind == "int16")
