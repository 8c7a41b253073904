"""Where nothing can be written: one line that names the place, exit code 2, before work is spent; nothing is left."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.cli import main
from targets import TargetError
from targets.files import append_line, replacing, write_whole
from tests.test_bad_input import RECIPE, everything, one_line, write

LAW = """
[model]
source = "net.py:net"
[model.inputs.image]
shape = ["batch", 1, 8, 8]
[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
[law]
members = ["net.py:net"]
bits = [4]
groups = [16]
"""
NET = """
import torch

def net():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
"""
SEARCH = ["search", "recipe.toml", "--average", "5", "--widths", "int4,int8", "--workers", "1"]
TRAINED = ["export", "recipe.toml", "--out", "trained", "--finetune", "calibration.npz", "--epochs", "1"]
# what a command makes: words, and the option that names it
FOLDERS: dict[str, list[str]] = {
    "export": ["export", "recipe.toml", "--out"],
    "sweep": ["sweep", "recipe.toml", "--bits", "8", "--out"],
    "search": [*SEARCH, "--out"],
    "tune": ["tune", "recipe.toml", "--out"],
    "law": ["law", "law.toml", "--workers", "1", "--out"],
}
FILES: dict[str, list[str]] = {
    "convert to tflite": ["convert", "model.onnx", "--to", "tflite", "--out"],
    "convert to onnx": ["convert", "model.onnx", "--to", "onnx", "--out"],
    "check --json": ["check", "bundle", "--json"],
    "check --junit": ["check", "bundle", "--junit"],
    "check --history": ["check", "bundle", "--history"],
    "bench --junit": ["bench", "bundle", "--junit"],
    "bench --history": ["bench", "bundle", "--history"],
}
RESULTS: dict[str, list[str]] = {
    "check.json": ["check", "bundle"],
    "bench.json": ["bench", "bundle"],
    "parity.json": ["parity", "bundle"],
    "report.html": ["report", "bundle"],
}
PAGES = {
    "sweep": ("sweep.json", "sweep.html", "journal.jsonl"),
    "search": ("search.json", "search.html", "recipe.toml", "kit/model.onnx"),
    "tune": ("tune.json", "tune.html"),
    "law": ("law.json", "law.html", "results.jsonl"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes, what they name, and a bundle."""
    folder = tmp_path_factory.mktemp("made")
    write(folder)
    (folder / "recipe.toml").write_text(RECIPE + "[gates]\nmax_drop = 100\n")
    (folder / "law.toml").write_text(LAW)
    (folder / "net.py").write_text(NET)
    assert main(["export", str(folder / "recipe.toml"), "--out", str(folder / "bundle")]) == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in. What measures fails: a place is refused before."""

    def measured(*_: object, **__: object) -> None:
        raise AssertionError("work was spent before the place was looked at")

    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    for name in ("targets.check", "targets.bench.bench", "exporter.pipeline.build", "exporter.search.search"):
        monkeypatch.setattr(name, measured)
    return tmp_path / "here"


def a_file(folder: Path) -> str:
    (folder / "keep").write_text("keep me")
    return "keep"


def below_a_file(folder: Path) -> str:
    return f"{a_file(folder)}/out"


def far_below_a_file(folder: Path) -> str:
    return f"{a_file(folder)}/deep/out"


def a_folder(folder: Path) -> str:
    (folder / "full").mkdir()
    return "full"


def below_nothing(folder: Path) -> str:
    return "none/out"


def no_permission(folder: Path) -> str:
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0o555)
    try:
        (folder / "closed" / "trial").touch()
    except PermissionError:
        return "closed/out"
    pytest.skip("root may write anywhere")


def refused(words: list[str], named: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    before = everything(folder)
    capfd.readouterr()
    code = main(words)
    out, err = capfd.readouterr()
    assert named in one_line(err)
    assert (code, out) == (2, "")
    assert everything(folder) == before
    return err


CASES = [
    pytest.param(words, place, id=f"{command}-{place.__name__}")
    for commands, places in (
        (FOLDERS, (a_file, below_a_file, far_below_a_file, no_permission)),
        (FILES, (a_folder, below_a_file, below_nothing, no_permission)),
    )
    for command, words in commands.items()
    for place in places
]


@pytest.mark.parametrize(("words", "place"), CASES)
def test_an_output_that_cannot_be(
    words: list[str], place: Callable[[Path], str], here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    where = place(here)
    refused([*words, where], where, here, capfd)


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_a_bundle_cannot_take(name: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "bundle" / name).unlink(missing_ok=True)
    (here / "bundle" / name).mkdir()
    refused(RESULTS[name], name, here, capfd)


@pytest.mark.slow
@pytest.mark.parametrize("command", PAGES)
def test_a_page_that_cannot_be_written(
    command: str, made: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each in turn is a folder, in results that are complete and so go on at once."""
    monkeypatch.chdir(made)
    words = [*FOLDERS[command], f"of-{command}"]
    assert main(words) == 0
    for name in PAGES[command]:
        path = made / f"of-{command}" / name
        path.rename(path.with_name("kept"))
        path.mkdir()
        capfd.readouterr()
        assert main(words) == 2
        assert f"cannot write of-{command}/{name}" in one_line(capfd.readouterr().err)
        assert not list(made.rglob("*.partial"))
        path.rmdir()
        path.with_name("kept").rename(path)


RUN = """
import contextlib, io, json, sys
from pathlib import Path
from exporter.cli import main

def files():
    return sorted(str(path) for path in Path("full").rglob("*") if path.is_file())

if __name__ == "__main__":
    before = files()
    for words in json.loads(sys.argv[1]):
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = main(words)
        print(json.dumps([code, said.getvalue(), sorted(set(files()) ^ set(before))]))
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a small tmpfs")
def test_a_full_disk(made: Path, tmp_path: Path) -> None:
    """No byte is left: one line from each command, no new file, and the old ones stay."""
    (made / "full").mkdir()
    alone, mount = ["unshare", "-rm", "sh", "-c"], "mount -t tmpfs -o size=1m tmpfs full"
    if subprocess.run([*alone, mount], cwd=made, capture_output=True, check=False).returncode:
        pytest.skip("this system lets no user mount a tmpfs")
    (tmp_path / "run.py").write_text(RUN)
    commands = [[*words, f"full/out{i}"] for i, words in enumerate([*FOLDERS.values(), *FILES.values()])]
    commands += [[*TRAINED, "--finetune-checkpoint", "full/training.pt"]]  # torch.save says RuntimeError
    commands += [[words[0], "full/bundle"] for words in RESULTS.values()]
    commands = [words for words in commands if words[0] != "bench"]  # writes as check does, and takes its time
    script = f'{mount} && cp -r bundle full && cat /dev/zero 2>&- > full/fill; exec "$0" "$@"'
    done = subprocess.run(
        [*alone, script, sys.executable, str(tmp_path / "run.py"), json.dumps(commands)],
        cwd=made, env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(commands), done.stderr
    for words, (code, said, changed) in zip(commands, answers, strict=True):
        assert (code, changed) == (2, []), words
        assert f"cannot write {words[-1]}" in one_line(said)
        assert "No space left on device; free some space" in said


def test_a_line_that_does_not_fit_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.jsonl"
    append_line(path, "first")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for name in ("history.jsonl", "new.jsonl"):
        with pytest.raises(TargetError, match=rf"cannot write .*{name}: No space left on device; free some space"):
            append_line(tmp_path / name, "second")
    assert path.read_text("utf-8") == "first\n"
    assert [each.name for each in tmp_path.iterdir()] == ["history.jsonl"]


@pytest.mark.parametrize("fault", [OSError(errno.EDQUOT, "Disk quota exceeded"), ValueError("ours")])
def test_a_file_that_is_not_finished_leaves_the_older_one(fault: Exception, tmp_path: Path) -> None:
    path = tmp_path / "page"
    write_whole(path, "older")

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise fault

    with pytest.raises(TargetError if isinstance(fault, OSError) else ValueError):
        fail()
    assert path.read_text("utf-8") == "older"
    assert [each.name for each in tmp_path.iterdir()] == ["page"]


def test_the_checker_alone(made: Path) -> None:
    """check.pyz knows nothing of the rest of kbit, and says the same."""
    command = [sys.executable, str(made / "bundle" / "check.pyz"), "--samples", "1", "--json", "none/result.json"]
    done = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot write none/result.json: No such file or directory" in one_line(done.stderr)
