"""The command line: exit codes, one line for an error, JSON alone on stdout, a flag for every key."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter import cli, recipe
from exporter.cli import app, main
from exporter.cli.output import progress_bars
from exporter.errors import KbitError


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["exprt"], "No such command 'exprt'. Did you mean 'export'"),
        (["export"], "Missing argument 'SOURCE'"),
        (["export", "m.onnx"], "Missing option '--out'"),
        (["export", "m.onnx", "--out", "o", "--max-drp", "1"], "No such option: --max-drp"),
        (["export", "none.toml", "--out", "o"], "cannot read the recipe 'none.toml'"),
        (["export", "m.onnx", "--out", "o", "--weights", "int88"], 'quantize.weights = "int88": expected'),
        (["inspect", "none.onnx"], "none.onnx: no such file or folder"),
        (["inspect"], "Missing argument"),
        (["convert", "none.onnx", "--to", "tflit", "--out", "x"], "unknown format 'tflit'"),
        (["convert", "none.onnx", "--to", "onnx", "--out", "x", "--channels-last"], "channels_last is for TFLite"),
        (["targets", "nonesuch"], "nonesuch"),
        (["lint", "none.toml"], "cannot read the recipe 'none.toml'"),
        (["check", "none"], "none"),
        (["report", "none"], "none"),
    ],
)
def test_a_user_mistake_is_one_line_and_exit_code_2(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert line in err
    assert list(tmp_path.iterdir()) == []


def test_help_says_what_a_key_takes(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["export", "--help"]) == 0
    lines = capfd.readouterr().out.splitlines()
    for flag, words in (
        ("--symmetric", "true|false"),
        ("--granularity", "channel|tensor|INTEGER"),
        ("--seed", "INTEGER"),
    ):
        assert any(flag in line and words in line for line in lines), flag


def test_no_help_text_is_taken_for_markup(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The help page would swallow [tags] and turn :M: into a letter in a circle."""
    import typer.main

    monkeypatch.setenv("COLUMNS", "1000")
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert main([name, "--help"]) == 0
        shown = capfd.readouterr().out
        for text in (getattr(parameter, "help", None) for parameter in command.params):
            assert (text or "") in shown, name


def test_help_and_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capfd.readouterr().out
    for command in ("export", "check", "convert", "inspect", "report", "targets", "schema"):
        assert command in text
    assert main(["--version"]) == 0
    assert capfd.readouterr().out.startswith("kbit")


def test_export_has_a_flag_for_every_key() -> None:
    import typer.main

    command = typer.main.get_command(app).commands["export"]  # type: ignore[attr-defined]
    flags = {option for parameter in command.params for option in parameter.opts}
    assert {key.flag for key in recipe.KEYS} <= flags


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KbitError("two\nlines", "do this"), 2, "error: two lines; do this\n"),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 2, "error: No space left on device: out/x\n"),
        (ZeroDivisionError("a\nb"), 3, "error: a fault in kbit, please report it: ZeroDivisionError: a b; KBIT_TR"),
    ],
)
def test_an_exception_is_one_line(
    error: Exception, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert main(["schema"]) == code
    text = capfd.readouterr().err
    assert text.startswith(line)
    assert text.count("\n") == 1
    monkeypatch.setenv("KBIT_TRACEBACK", "1")
    with pytest.raises(type(error)):
        main(["schema"])


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def stop() -> dict[str, object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "schema", stop)
    assert main(["schema"]) == 130
    assert capfd.readouterr() == ("", "")


def test_schema_is_json_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == recipe.schema()
    assert err == ""


def test_targets(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert "host" in [target["name"] for target in listed]
    assert main(["targets"]) == 0
    assert "host" in capfd.readouterr().out
    assert main(["targets", "host"]) == 0
    assert "host" in capfd.readouterr().out


def test_a_reader_that_leaves_is_no_failed_gate(tmp_path: Path) -> None:
    program = f'{sys.executable} -c \'from exporter.cli import main; raise SystemExit(main(["export", "--help"]))\''
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        ["bash", "-c", f"{program} | true; exit ${{PIPESTATUS[0]}}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_progress_is_silent_when_stderr_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        progress("calibrate", 1, 2)
        progress("package", 0, None)
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """x [batch,4] -> Gemm, Relu, Gemm -> y [batch,3]."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("model")
    weights = {"w": rng.normal(size=(8, 4)), "v": rng.normal(size=(3, 8)), "b": rng.normal(size=8)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="first", transB=1),
        helper.make_node("Relu", ["h"], ["r"], name="act"),
        helper.make_node("Gemm", ["r", "v"], ["y"], name="second", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), folder / "model.onnx"
    )
    x = rng.normal(size=(64, 4)).astype(np.float32)
    hidden = np.maximum(x @ weights["w"].T + weights["b"], 0)
    np.savez(folder / "data.npz", x=x, labels=(hidden @ weights["v"].T).argmax(1))
    return folder


@pytest.fixture(scope="module")
def exported(model: Path) -> Path:
    """A bundle from a model file and flags, without a recipe."""
    data = str(model / "data.npz")
    words = ["export", str(model / "model.onnx"), "--calibration", data, "--evaluation", data, "--max-drop", "50"]
    assert main([*words, "--out", str(model / "bundle"), "--evaluation-samples", "32"]) == 0
    return model / "bundle"


def test_export_without_a_recipe_saves_the_one_it_amounts_to(exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    assert "max_drop" in json.dumps(manifest)
    assert {path.suffix for path in exported.iterdir()} >= {".onnx", ".tflite", ".json"}


def test_check_writes_its_json_to_a_file_or_to_stdout(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert main(["check", str(exported), "--on", "host", "--json", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert "passed" in capfd.readouterr().out
    assert main(["check", str(exported), "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    for found in (result, printed):
        assert found["passed"] is True
        assert set(found["artifacts"]) >= {"onnxruntime", "tflite"}
        for facts in found["artifacts"].values():
            assert facts["bytes"] > 0
            assert {"p50", "n"} <= set(facts["latency_ms"])
        assert 0 <= found["agreement"]["top1"] <= 1


def test_a_failed_gate_is_exit_code_1(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = str(model / "data.npz")
    words = ["export", str(model / "model.onnx"), "--calibration", data, "--evaluation", data, "--max-bytes", "1"]
    capfd.readouterr()
    assert main([*words, "--out", str(tmp_path / "out"), "--json"]) == 1
    result = json.loads(capfd.readouterr().out)
    assert result["check"]["passed"] is False
    assert any("limit 1" in reason for reason in result["check"]["reasons"])
    assert (tmp_path / "out" / "manifest.json").is_file()  # made and judged: the user may look at it
    assert main(["check", str(tmp_path / "out")]) == 1
    assert "NOT passed" in capfd.readouterr().out


def test_torch_prints_nothing_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A module, in float and without data; its exporter, its optimizer and its warnings stay quiet."""
    monkeypatch.chdir(tmp_path)
    source = "import torch\n\ndef build():\n    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.GELU())\n"
    (tmp_path / "quiet_net.py").write_text(source)
    words = ["export", "quiet_net:build", "--input", "x=batch,4", "--weights", "float", "--activations", "float"]
    assert main([*words, "--out", "out", "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    found = json.loads(out)
    assert found["parity"]["max_abs"] < 1e-5
    assert set(found["float_nodes"].values()) == {"the recipe asks for a float model"}


def test_a_language_model_is_no_file_to_lint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}", "utf-8")
    (tmp_path / "recipe.toml").write_text('[model]\nsource = "folder"\n[data]\ncalibration = "c.txt"\n', "utf-8")
    for words in (["lint"], ["search", "--average", "3", "--out", str(tmp_path / "out")]):
        assert main([words[0], str(tmp_path / "recipe.toml"), *words[1:]]) == 2
        assert "'folder' is a checkpoint folder of a language model; kbit export and kbit law" in capfd.readouterr().err


def test_nothing_to_lint_is_no_clean_bill(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.toml").write_text('[model]\nsource = "m.onnx"\n[data]\nevaluation = "e.npz"\n', "utf-8")
    assert main(["lint", str(tmp_path / "recipe.toml")]) == 2
    assert "data.calibration is missing" in capfd.readouterr().err


def test_weights_that_a_runtime_cannot_hold_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """TFLite has no groups of a codebook; its file is as large as float, and the export says why."""
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", s]) for n, s in (("x", 64), ("y", 32)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "net", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    words = ["export", str(tmp_path / "m.onnx"), "--out", str(tmp_path / "out"), "--weights", "nf4"]
    assert main([*words, "--activations", "float", "--granularity", "32"]) == 0
    out, err = capfd.readouterr()
    assert "tflite keeps 1 weight of the plan as float32 numbers" in out
    assert "onnxruntime keeps" not in out
    assert err == ""


def test_wishes_that_change_nothing_are_said(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A pass with nothing to do is a line; keys of language models for another kind of model are refused."""
    capfd.readouterr()
    words = ["export", str(model / "model.onnx"), "--calibration", str(model / "data.npz"), "--passes", "rotate"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    line = "pass rotate changed nothing: this model has no MatMul or Gemm with a constant weight whose inputs divide"
    assert line in " ".join(capfd.readouterr().out.split())
    assert json.loads((tmp_path / "out" / "analysis.json").read_text())["idle_passes"].keys() == {"rotate"}
    assert "changed nothing" in (tmp_path / "out" / "report.html").read_text()
    assert main([*words, "--window", "64", "--out", str(tmp_path / "other")]) == 2
    assert "[language] for a model that is not a checkpoint folder" in capfd.readouterr().err


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_convert(suffix: str, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"model.{suffix}"
    assert main(["convert", str(model / "model.onnx"), "--to", suffix, "--out", str(out), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    difference = told.pop("difference")
    assert told == {"path": str(out), "format": suffix, "size": out.stat().st_size}
    assert (difference is not None and difference < 0.02) if suffix == "tflite" else difference is None
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert main(["inspect", str(out)]) == 0
    assert re.search(r"input +x +float32", capfd.readouterr().out)


def test_inspect_a_bundle(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(exported), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["kind"] == "bundle"
    assert {part["kind"] for part in found["parts"]} == {"onnx", "tflite"}
    assert all(row["why"] for row in found["schemes"])
    by_name = {row["name"]: row for part in found["parts"] for row in part["schemes"]}
    assert by_name, "the artifacts have schemes of their own"
    assert main(["inspect", str(exported)]) == 0
    assert "zero_point" in capfd.readouterr().out


def test_report(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(exported), "--json"]) == 0
    page = Path(json.loads(capfd.readouterr().out)["report"])
    assert page.read_text("utf-8").lstrip().lower().startswith("<!doctype html")
