"""The page's arithmetic in JavaScript against the agent's in Python, on real data: preprocessing, metrics, tensors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from targets.agent import metrics, preprocess, runtimes

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("KBIT_DATA", ROOT.parent / "shared" / "data"))
RUNNER = """
import {readFileSync, writeFileSync} from 'node:fs';
import {apply} from './preprocess.js';
import {METRICS, agreement} from './metrics.js';
import {TYPES, cast, fromArtifact, padded, rows, toArtifact, unpack} from './tensor.js';

const calls = {apply, agreement, cast, fromArtifact, padded, rows, toArtifact, unpack,
  score: (name, outputs, labels) => METRICS[name](outputs, labels)};
const [, , folder] = process.argv;
const {call, values} = JSON.parse(readFileSync(`${folder}/call.json`));
const load = (value) => value?.file ? {shape: value.shape,
  data: new TYPES[value.dtype](Uint8Array.from(readFileSync(`${folder}/${value.file}`)).buffer)} : value;
const result = calls[call](...values.map(load));
if (result?.data) writeFileSync(`${folder}/result.bin`, result.data);
const dtype = Object.keys(TYPES).find((name) => result?.data instanceof TYPES[name]);
writeFileSync(`${folder}/result.json`, JSON.stringify(result?.data ? {shape: result.shape, dtype} : {value: result}));
"""
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Calls a function of the page's modules in node; arrays go and come as they are."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; .ci/run installs it")
    folder = tmp_path_factory.mktemp("modules")
    for path in (ROOT / "targets" / "agent" / "phone").glob("*.js"):
        shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "run.js").write_text(RUNNER)

    def call(name: str, *values: Any) -> Any:
        said: list[Any] = []
        for number, value in enumerate(values):
            if isinstance(value, np.ndarray):
                np.ascontiguousarray(value).tofile(folder / f"{number}.bin")
                said.append({"file": f"{number}.bin", "dtype": value.dtype.name, "shape": list(value.shape)})
            else:
                said.append(value)
        (folder / "call.json").write_text(json.dumps({"call": name, "values": said}))
        subprocess.run([node, folder / "run.js", folder], check=True, timeout=600)
        found = json.loads((folder / "result.json").read_text())
        if "value" in found:
            return found["value"]
        return np.fromfile(folder / "result.bin", found["dtype"]).reshape(found["shape"])

    return call


def real(name: str, key: str, count: int) -> np.ndarray:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"real data: {name} not in {DATA}; set KBIT_DATA")
    with np.load(path) as arrays:
        return np.asarray(arrays[key][:count])


IMAGES: list[tuple[str, Mapping[str, Any] | None, list[Any]]] = [
    ("plain", {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, ["n", 3, 32, 32]),
    ("to NHWC", {"scale": 1 / 255, "mean": 0.5, "std": 0.25}, ["n", 32, 32, 3]),
    ("larger", {"resize": [45, 51], "scale": 1 / 255, "mean": [0.4, 0.5, 0.6], "std": [1, 2, 3]}, ["n", 3, 45, 51]),
    ("smaller", {"resize": [17, 32], "scale": 0.017, "mean": 3}, ["n", 3, 17, 32]),
    ("none", None, ["n", 32, 32, 3]),
]  # fmt: skip


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("name", "spec", "shape"), IMAGES, ids=[name for name, _, _ in IMAGES])
def test_images_are_equal_bit_for_bit(name: str, spec: Any, shape: Any, layout: str, javascript: Call) -> None:
    raw = real("cifar10_test2000.npz", "images", 64)
    raw = np.ascontiguousarray(raw if layout == "NHWC" else raw.transpose(0, 3, 1, 2))
    spec = None if spec is None else {**spec, "source_layout": layout}
    np.testing.assert_array_equal(
        javascript("apply", raw, spec, shape), preprocess.apply(raw, spec, shape), strict=True
    )


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32", "float64", "bool"])
def test_every_dtype_of_raw_samples(dtype: str, javascript: Call) -> None:
    raw = (load_digits().images[:50] * 1.37).astype(dtype)[..., None]
    spec = {"scale": 0.0625, "mean": [0.3], "std": [0.7], "resize": [5, 9]}
    shape = ["batch", 1, 5, 9]
    np.testing.assert_array_equal(
        javascript("apply", raw, spec, shape), preprocess.apply(raw, spec, shape), strict=True
    )


@pytest.mark.parametrize("length", [6000, 8000, 12000])
@pytest.mark.parametrize(("n_fft", "hop"), [(256, 128), (400, 160), (225, 100)])
def test_log_mel_is_equal_to_the_last_bit_of_a_float32(length: int, n_fft: int, hop: int, javascript: Call) -> None:
    raw = waves(40)
    mel = {"sample_rate": 8000, "n_fft": n_fft, "hop": hop, "mels": 40}
    spec = {"length": length, "scale": 1 / 32768, "log_mel": mel, "mean": -6.0, "std": 3.0}
    expected = preprocess.apply(raw, spec, ["n", 1, 40, "frames"])
    found = javascript("apply", raw, spec, ["n", 1, 40, "frames"])
    assert found.shape == expected.shape
    step = np.spacing(np.maximum(np.abs(expected), 1).astype(np.float32))
    assert np.abs(found - expected).max() <= 2 * step.max()
    assert np.mean(found == expected) > 0.999


def waves(count: int) -> np.ndarray:
    """Spoken digits, int16 [count, 7000], cut or filled up with silence."""
    offsets = real("spoken_digits_8khz.npz", "offsets", count + 1)
    samples = real("spoken_digits_8khz.npz", "samples", int(offsets[-1]))
    found = np.zeros((count, 7000), np.int16)
    for row, start, stop in zip(found, offsets, offsets[1:], strict=False):
        row[: stop - start] = samples[start:stop][:7000]
    return found


def outputs_and_labels(metric: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    outputs = rng.normal(size=(60, 10)).round(1).astype(np.float32)  # with ties
    if metric in {"top1", "top5"}:
        return outputs, rng.integers(0, 10, 60)
    return outputs, (outputs + rng.normal(size=outputs.shape)).astype(np.float32)


@pytest.mark.parametrize("metric", ["top1", "top5", "cosine", "mse"])
def test_metrics_are_equal(metric: str, javascript: Call) -> None:
    outputs, labels = outputs_and_labels(metric)
    assert javascript("score", metric, outputs, labels) == pytest.approx(
        metrics.score(metric, outputs, labels), rel=1e-12
    )


@pytest.mark.parametrize(("columns", "labels"), [(1, 60), (10, 30), (10, 60)])
def test_spearman_is_equal(columns: int, labels: int, javascript: Call) -> None:
    outputs = outputs_and_labels("top1")[0][:, :columns]
    truth = np.random.default_rng(8).integers(0, 6, labels).astype(np.float32)
    expected = metrics.score("spearman", outputs, truth)
    assert javascript("score", "spearman", np.ascontiguousarray(outputs), truth) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [None, 0.05, 0.1])
def test_agreement_is_equal(scale: float | None, javascript: Call) -> None:
    first, second = outputs_and_labels("mse")
    second = np.where(np.arange(60)[:, None] % 3, first, second)
    found, expected = javascript("agreement", first, second, scale), metrics.agreement(first, second, scale)
    assert found["max_lsb"] == expected["max_lsb"]
    assert found["top1"] == pytest.approx(expected["top1"], rel=1e-12)
    assert found["equal"] == pytest.approx(expected["equal"], rel=1e-12)


SPECS = [
    {"dtype": "float32", "permutation": [0, 2, 3, 1]},
    {"dtype": "int8", "permutation": [0, 2, 3, 1], "scale": 0.0078125, "zero_point": -128},
    {"dtype": "int8", "permutation": None, "scale": 0.013, "zero_point": 3},
    {"dtype": "int16", "permutation": [0, 2, 3, 1], "scale": 0.000025, "zero_point": 0},
]


@pytest.mark.parametrize("spec", SPECS)
def test_what_an_artifact_takes_and_gives_is_equal(spec: dict[str, Any], javascript: Call) -> None:
    array = real("cifar10_test2000.npz", "images", 8).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    expected = runtimes._to_artifact(array, spec)
    np.testing.assert_array_equal(javascript("toArtifact", array, spec), expected, strict=True)
    back = runtimes._from_artifact(expected, spec)
    np.testing.assert_array_equal(javascript("fromArtifact", expected, spec), back, strict=True)


def test_a_batch_is_filled_with_its_last_row(javascript: Call) -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    np.testing.assert_array_equal(javascript("padded", array, 5), array[[0, 1, 2, 2, 2]], strict=True)
    np.testing.assert_array_equal(javascript("rows", array, 1, 3), array[1:3], strict=True)
