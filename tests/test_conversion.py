"""kbit convert: dimensions that the user fixes, and a translation that is run before it is handed over."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter import ops
from exporter.conversion import convert
from exporter.emit import tflite
from exporter.errors import KbitError, LoadError

HEAD = '<ir_version: 10, opset_import: ["" : 21]>\n'
TWO = (
    HEAD
    + "main (int64[N,T] tokens, float[N,T] keep) => (float[N,T] y) "
    + "{ f = Cast<to=1>(tokens) a = Mul(f, keep) y = Relu(a) }"
)


def saved(folder: Path, text: str) -> Path:
    path = folder / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def test_a_fixed_dimension_holds_wherever_its_name_occurs(tmp_path: Path) -> None:
    source, out = saved(tmp_path, TWO), tmp_path / "model.tflite"
    with pytest.raises(KbitError, match="dimension 1 is dynamic"):
        convert(source, "tflite", out)
    assert not out.exists()
    done = convert(source, "tflite", out, shapes={"tokens": ["N", 16]})
    assert done.difference is not None
    assert done.difference < 1e-6
    shapes = {
        n: tuple(d["shape_signature"])
        for n, d in Interpreter(str(out)).get_signature_runner().get_input_details().items()
    }
    assert shapes == {"tokens": (-1, 16), "keep": (-1, 16)}


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"tokns": [1, 2]}, "--shape.tokns: the model has no such input; it has tokens, keep"),
        ({"tokens": [1, 2, 3]}, "shape [1, 2, 3] does not fit the model's ['N', 'T']"),
        ({"tokens": [1, 8], "keep": [1, 9]}, "dimension 'T' is 8 in another input"),
    ],
)
def test_what_does_not_fit(shapes: dict[str, list[int | str]], said: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        convert(saved(tmp_path, TWO), "tflite", tmp_path / "model.tflite", shapes=shapes)
    assert said in str(caught.value)


def test_a_wrong_translation_gets_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path, HEAD + "main (float[N,4] x) => (float[N,4] y) { y = Softplus(x) }")
    row = ops.OPS["Softplus"]
    broken = dataclasses.replace(row, lower=ops.OPS["Relu"].lower)
    monkeypatch.setattr(tflite, "OPS", {**ops.OPS, "Softplus": broken})
    out = tmp_path / "model.tflite"
    with pytest.raises(KbitError, match="differs from ONNX Runtime"):
        convert(source, "tflite", out)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert convert(source, "tflite", out, verify=False).difference is None


def test_indices_that_a_random_input_cannot_be_are_no_fault(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        HEAD + "main (int64[N] i, float[N,3] x) => (float[N,3] y) { t = Gather(w, i) y = Add(t, x) }"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1, 3), np.float32), "w"))
    onnx.save(proto, tmp_path / "model.onnx")
    assert convert(tmp_path / "model.onnx", "tflite", tmp_path / "model.tflite").difference is None
