"""Whatever is wrong with what the user gives: one line that says so, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.cli import main

RECIPE = """
[model]
source = "model.onnx"
[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
calibration_samples = 16
evaluation_samples = 16
"""
TORCH = 'source = "{module}:build"\ncheckpoint = "weights.pt"\n[model.inputs.image]\nshape = ["batch", 1, 8, 8]'
MODULE = """
    import torch

    def build():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
"""
Arrays = dict[str, np.ndarray]


def model(op: str = "Relu") -> onnx.ModelProto:
    """image [batch,1,8,8] -> conv, op, mean, gemm -> logits [batch,10]."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 1, 3, 3)), "v": rng.normal(size=(10, 4)), "b": rng.normal(size=10)}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="conv"),
        helper.make_node(op, ["c"], ["r"], name="act"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "v", "b"], ["logits"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def write(folder: Path, calibration: Arrays | None = None, evaluation: Arrays | None = None) -> None:
    """A recipe that works, with what it names; a case then spoils one thing."""
    rng = np.random.default_rng(1)
    images = rng.normal(size=(32, 1, 8, 8)).astype(np.float32)
    onnx.save(model(), folder / "model.onnx")
    np.savez(folder / "calibration.npz", **({"image": images} if calibration is None else calibration))
    labelled = {"image": images, "labels": rng.integers(0, 10, 32)}
    np.savez(folder / "evaluation.npz", **(labelled if evaluation is None else evaluation))
    (folder / "recipe.toml").write_text(RECIPE)


def images(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.ones(shape, dtype)


def torch_model(folder: Path, spoil: Callable[[Path, dict[str, object]], None]) -> None:
    import torch

    module = f"net_{abs(hash(folder))}"  # a name of its own: modules are imported once in a process
    (folder / f"{module}.py").write_text(textwrap.dedent(MODULE))
    text = RECIPE.replace('source = "model.onnx"', TORCH.format(module=module))
    (folder / "recipe.toml").write_text(text)
    state: dict[str, object] = dict(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).state_dict())
    spoil(folder / "weights.pt", state)


def save_state(path: Path, state: dict[str, object]) -> None:
    import torch

    torch.save(state, path)


class Trap:
    """A pickle that would run code when loaded."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("trap-was-run", "w")


def missing_checkpoint(folder: Path) -> None:
    torch_model(folder, lambda path, state: None)


def other_keys(folder: Path) -> None:
    def spoil(path: Path, state: dict[str, object]) -> None:
        state["head.weight"] = state.pop("1.weight")
        save_state(path, state)

    torch_model(folder, spoil)


def other_shape(folder: Path) -> None:
    def spoil(path: Path, state: dict[str, object]) -> None:
        import torch

        save_state(path, state | {"1.weight": torch.zeros(9, 64)})

    torch_model(folder, spoil)


def trapped_pickle(folder: Path) -> None:
    torch_model(folder, lambda path, state: path.write_bytes(pickle.dumps(Trap())) and None)


def trapped_checkpoint(folder: Path) -> None:
    torch_model(folder, lambda path, state: save_state(path, state | {"optimizer": Trap()}))


def not_a_checkpoint(folder: Path) -> None:
    torch_model(folder, lambda path, state: path.write_text("weights") and None)


def no_such_callable(folder: Path) -> None:
    torch_model(folder, save_state)
    text = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(text.replace(":build", ":bild"))


def recipe_with(old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "recipe.toml").write_text(RECIPE.replace(old, new))

    return spoil


def calibration_of(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: write(folder, calibration=arrays)


def evaluation_of(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: write(folder, evaluation=arrays)


def unknown_op(folder: Path) -> None:
    nodes = model("Relu")
    nodes.graph.node[1].op_type = "Swizzle"
    onnx.save(nodes, folder / "model.onnx")


def unknown_domain(folder: Path) -> None:
    nodes = model()
    nodes.graph.node[1].domain = "com.example"
    nodes.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(nodes, folder / "model.onnx")


def truncated_model(folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:200])


def no_npz(folder: Path) -> None:
    (folder / "calibration.npz").write_bytes(b"PK\x03\x04 not an archive")


def pickled_npz(folder: Path) -> None:
    np.savez(folder / "calibration.npz", image=np.array([Trap()], dtype=object))


def filled_out(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "precious.txt").write_text("keep me")


def out_is_a_file(folder: Path) -> None:
    (folder / "out").write_text("keep me")


NAN, INF = images(32, 1, 8, 8), images(32, 1, 8, 8)
NAN[:, 0, 2, 1] = np.nan  # in every sample: which ones are used is not for this test to know
INF[:, 0, 0, 0] = -np.inf
FAR = np.full(32, 10)

EXPORT: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing checkpoint": (missing_checkpoint, r"weights\.pt"),
    "keys that do not match": (other_keys, r"1\.weight.*head\.weight|head\.weight.*1\.weight"),
    "a weight of another shape": (other_shape, r"1\.weight.*(9, 64|9x64).*(10, 64|10x64)|(10, 64).*(9, 64)"),
    "a pickle that is not weights": (trapped_pickle, r"weights\.pt"),
    "a checkpoint that runs code": (
        trapped_checkpoint,
        r"weights\.pt.*(?i:code|objects|more than).*(?i:save|state_dict)",
    ),
    "a checkpoint that is text": (not_a_checkpoint, r"weights\.pt"),
    "no such callable": (no_such_callable, r"bild"),
    "no such module": (recipe_with("model.onnx", "nonesuch:build"), r"nonesuch"),
    "no such model": (recipe_with("model.onnx", "none.onnx"), r"none\.onnx"),
    "a truncated model": (truncated_model, r"model\.onnx"),
    "no such data": (recipe_with("calibration.npz", "none.npz"), r"none\.npz"),
    "data that is no archive": (no_npz, r"calibration\.npz"),
    "data with a pickle": (pickled_npz, r"calibration\.npz"),
    "another shape than the model": (calibration_of(image=images(32, 1, 7, 8)), r"7.*8"),
    "another input name": (calibration_of(picture=images(32, 1, 8, 8), drawing=images(32, 1, 8, 8)), r"image"),
    "text as data": (calibration_of(image=np.full((4, 1, 8, 8), "a")), r"image"),
    "NaN in calibration data": (calibration_of(image=NAN), r"(?i)nan|not finite"),
    "infinity in calibration data": (calibration_of(image=INF), r"(?i)inf|not finite"),
    "empty calibration set": (calibration_of(image=images(0, 1, 8, 8)), r"(?i)empty|no samples|0 samples"),
    "labels out of range": (evaluation_of(image=images(32, 1, 8, 8), labels=FAR), r"label.*10"),
    "negative labels": (evaluation_of(image=images(32, 1, 8, 8), labels=FAR - 11), r"label.*-1"),
    "fewer labels than samples": (evaluation_of(image=images(32, 1, 8, 8), labels=FAR[:5] - 5), r"label"),
    "one-hot labels": (
        evaluation_of(image=images(32, 1, 8, 8), labels=np.eye(10, dtype=int)[np.arange(32) % 10]),
        r"shape \[16, 10\].*argmax",
    ),
    "no labels": (evaluation_of(image=images(32, 1, 8, 8)), r"label"),
    "unknown op": (unknown_op, r"Swizzle.*act|act.*Swizzle"),
    "an op of another domain": (unknown_domain, r"com\.example|Relu"),
    "unknown recipe key": (recipe_with("[data]", "[data]\nsamples = 3"), r"unknown key data\.samples"),
    "unknown metric": (recipe_with("[data]", '[data]\nmetric = "top2"'), r"top2"),
    "unknown target": (recipe_with("[data]", '[targets]\nnames = ["hots"]\n[data]'), r"hots.*host"),
    "output folder not empty": (filled_out, r"out.*not empty"),
    "output folder is a file": (out_is_a_file, r"out"),
}


PROGRAM = "from exporter.cli import main; raise SystemExit(main())"


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("error: "), text
    assert "Traceback" not in text
    return lines[0].removeprefix("error: ")


def everything(folder: Path) -> dict[str, bytes | None]:
    found = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


@pytest.mark.parametrize("case", EXPORT)
def test_export_refuses(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, pattern = EXPORT[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    spoil(tmp_path)
    before = everything(tmp_path)
    code = main(["export", "recipe.toml", "--out", "out"])
    out, err = capfd.readouterr()
    line = one_line(err)
    assert re.search(pattern, line), line
    assert code == 2
    assert out == ""
    assert everything(tmp_path) == before, "something was left behind"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write(folder)
    assert main(["export", str(folder / "recipe.toml"), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_the_recipe_that_the_cases_spoil_works(bundle: Path) -> None:
    assert (bundle / "manifest.json").is_file()
    assert not [path for path in bundle.parent.rglob("*") if path.suffix in (".partial", ".tmp")]


def truncate(pattern: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in folder.rglob(pattern):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return spoil


def flip(pattern: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in folder.rglob(pattern):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)

    return spoil


def remove(pattern: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in folder.rglob(pattern):
            path.unlink()

    return spoil


def point_outside(where: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        shutil.copy(folder / manifest["artifacts"][0]["path"], folder.parent / "outside.onnx")
        manifest["artifacts"][0]["path"] = where.format(folder=folder)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return spoil


def link_outside(folder: Path) -> None:
    path = folder / json.loads((folder / "manifest.json").read_text())["artifacts"][0]["path"]
    path.rename(folder.parent / "outside.onnx")
    path.symlink_to(folder.parent / "outside.onnx")


BUNDLE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a truncated onnx file": (truncate("*.onnx"), r"\.onnx"),
    "a truncated tflite file": (truncate("*.tflite"), r"\.tflite"),
    "one wrong bit": (flip("*.tflite"), r"\.tflite"),
    "a missing artifact": (remove("*.onnx"), r"\.onnx"),
    "no manifest": (remove("manifest.json"), r"manifest\.json"),
    "a truncated manifest": (truncate("manifest.json"), r"manifest\.json"),
    "a path that climbs out": (point_outside("../outside.onnx"), r"outside"),
    "an absolute path": (point_outside("{folder}/../outside.onnx"), r"outside"),
    "a link that leads out": (link_outside, r"(?i)outside|link|\.onnx"),
}


@pytest.mark.parametrize("case", BUNDLE)
@pytest.mark.parametrize("command", ["check", "inspect", "report"])
def test_a_bundle_that_is_not_sound_is_refused(
    command: str, case: str, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, pattern = BUNDLE[case]
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    spoil(folder)
    before = everything(tmp_path)
    capfd.readouterr()
    code = main([command, str(folder)])
    out, err = capfd.readouterr()
    assert re.search(pattern, one_line(err)), err
    assert code == 2
    assert out == ""
    assert everything(tmp_path) == before


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a small tmpfs")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "small").mkdir()
    script = 'mount -t tmpfs -o size=12k tmpfs small && "$0" -c "$1" export recipe.toml --out small/out; '
    script += "code=$?; ls -A small >&2; exit $code"
    probe = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=12k tmpfs small"]
    if subprocess.run(probe, cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("this system lets no user mount a tmpfs")
    command = ["unshare", "-rm", "sh", "-c", script, sys.executable, PROGRAM]
    root = str(Path(__file__).parents[1])
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert "space" in one_line(done.stderr)
    assert done.returncode == 2


def test_convert_refuses_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    unknown_op(tmp_path)
    out = tmp_path / "model.tflite"
    before = everything(tmp_path)
    for source, to in (("model.onnx", "tflite"), ("none.onnx", "tflite"), ("model.onnx", "tflit"), ("", "onnx")):
        assert main(["convert", str(tmp_path / source), "--to", to, "--out", str(out)]) == 2
        one_line(capfd.readouterr().err)
    assert everything(tmp_path) == before
