"""kbit law: the fit, the store that survives a kill, the whole run on a family of small classifiers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cli import main
from exporter.errors import KbitError, RecipeError
from exporter.law import Member, Point, Result, fit, run_law
from exporter.law.fit import frontier
from exporter.law.store import Store
from exporter.recipe import read_recipe

NET = """
import torch
def _net(width):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, width), torch.nn.ReLU(), torch.nn.Linear(width, 4))
def small(): return _net(32)
def middle(): return _net(64)
def large(): return _net(128)
"""
RECIPE = """
[model]
source = "net.py:small"
[model.inputs.x]
shape = ["batch", 16]
[data]
calibration = "data.npz"
evaluation = "data.npz"
[law]
members = ["net.py:small", "net.py:middle", "net.py:large"]
bits = [1, 1.58, 2, 4, 8, 16]
groups = [16, 0]
budgets = [10, 4000, 1000000]
"""


def _result(bits: str, size: float, loss: float, file: int = 0, member: str = "m") -> Result:
    return Result(f"{bits} {size} {member}", member, bits, 32, "nearest", 1, int(size), file, loss, loss)


@settings(deadline=None, max_examples=20)
@given(floor=st.floats(0.1, 2), slope=st.floats(0.1, 0.9), four=st.floats(2, 20), eight=st.floats(2, 20))
def test_the_fit_finds_what_the_curves_were_made_of(floor: float, slope: float, four: float, eight: float) -> None:
    sizes = [1e4, 1e5, 1e6, 1e7]
    results = [_result(b, s, floor + a * s**-slope) for b, a in (("4", four), ("8", eight)) for s in sizes]
    found = fit(results)
    assert found is not None
    assert found.error < 0.01
    for result in results:
        assert found.loss(result.bits, result.weight_bits) == pytest.approx(result.loss, rel=0.05)
    if abs(four - eight) > 0.05 * four:
        assert found.best == ("4" if four < eight else "8")


def test_two_sizes_are_no_curve() -> None:
    assert fit([_result("4", 1e4, 2.0), _result("4", 1e5, 1.0), _result("8", 1e6, 1.0)]) is None


def test_the_frontier_is_what_nothing_beats() -> None:
    rows = [(100, 3.0), (200, 2.0), (150, 3.5), (300, 2.5), (400, 1.0), (400, 0.9)]
    found = frontier([_result("4", i, loss, size) for i, (size, loss) in enumerate(rows)])
    assert [(r.file_bytes, r.loss) for r in found] == [(100, 3.0), (200, 2.0), (400, 0.9)]


def test_a_store_forgets_a_line_that_was_cut_off_and_refuses_another_recipe(tmp_path: Path) -> None:
    store = Store(tmp_path, '{"a": 1}')
    results = [_result("4", size, 1.0) for size in (1, 2)]
    for result in results:
        store.add(result)
    path = tmp_path / "results.jsonl"
    path.write_text(path.read_text()[:-20])
    again = Store(tmp_path, '{"a": 1}')
    assert list(again.results.values()) == results[:1]
    again.add(results[1])
    assert list(Store(tmp_path, '{"a": 1}').results.values()) == results
    with pytest.raises(KbitError, match="is of another recipe, other data or other options"):
        Store(tmp_path, '{"a": 2}')


def test_a_point_is_known_by_what_is_measured() -> None:
    member = Member("a", "a.onnx")
    assert Point(member, "4", 32, "nearest").key == Point(Member("b", "a.onnx"), "4", 32, "nearest").key
    assert len({Point(member, b, g, "nearest").key for b in ("4", "8") for g in (0, 32)}) == 4


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    (folder / "net.py").write_text(NET)
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((64, 16)).astype(np.float32)
    np.savez(folder / "data.npz", x=samples, labels=rng.integers(0, 4, 64))
    (folder / "law.toml").write_text(RECIPE)
    return folder


def test_killed_and_resumed_gives_the_same_table(family: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["law", str(family / "law.toml"), "--out", str(family / "killed"), "--workers", "1"]
    code = f"import sys; from exporter.cli import main; sys.exit(main({words!r}))"
    with subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ), stdout=subprocess.PIPE) as process:
        path = family / "killed" / "results.jsonl"
        while not (path.is_file() and len(path.read_text().splitlines()) > 3) and process.poll() is None:
            time.sleep(0.05)
        process.kill()
        assert process.stdout is not None
        process.stdout.read()  # its workers end with it: they hold the other end
    done = len(path.read_text().splitlines()) - 1
    assert 3 <= done < 33
    assert main(words) == 0
    assert main([*words[:3], str(family / "whole"), "--workers", "2"]) == 0
    texts = [(family / name / "law.json").read_text() for name in ("killed", "whole")]
    (family / "net.py").write_text(NET + "# another model\n")  # what was measured with it is not mixed with this
    assert main(words) == 2
    (family / "net.py").write_text(NET)
    assert texts[0] == texts[1]
    body = json.loads(texts[0])
    assert len(body["results"]) == 3 * (5 * 2 + 1)
    assert {row["bits"] for row in body["results"]} == {"1", "1.58", "2", "4", "8", "16"}
    by = {(r["member"], r["bits"], r["group"]): r for r in body["results"]}
    assert by["large", "4", 0]["weight_bits"] == 4 * (16 * 128 + 128 * 4) + 32 * (128 + 4) + 32 * (128 + 4)
    assert by["large", "4", 16]["weight_bits"] > by["large", "4", 0]["weight_bits"]
    assert all(row["file_bytes"] <= row["budget"] for row in body["best"])
    assert "<svg" in (family / "whole" / "law.html").read_text()
    out = capfd.readouterr().out
    assert "For 4 kB take" in out
    assert "Nothing fits in 10 B: the smallest is small at" in out


@pytest.mark.parametrize("changed", ["data/cat/0.png", "net.py", "weights.pt", "test.npz"])
def test_whatever_goes_in_is_known_by_its_bytes(changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of data, a module by name, a checkpoint: figures of another one are not reused."""

    class Measures(Exception):
        pass

    def measure(*_: object) -> None:
        raise Measures

    text = RECIPE.replace('calibration = "data.npz"', 'calibration = "data"').replace("net.py:", "net:")
    text = text.replace('evaluation = "data.npz"', 'evaluation = "test.npz"')
    (tmp_path / "law.toml").write_text(text + 'checkpoints = ["weights.pt", "weights.pt", "weights.pt"]\n')
    (tmp_path / "data" / "cat").mkdir(parents=True)
    for name in ("data/cat/0.png", "data/cat/1.png", "net.py", "weights.pt", "test.npz"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setattr("exporter.law.run.open_executor", measure)
    recipe = read_recipe(tmp_path / "law.toml")
    for _ in range(2):  # the second time it goes on
        with pytest.raises(Measures):
            run_law(recipe, base=tmp_path, out=tmp_path / "out")
    (tmp_path / changed).write_bytes(b"another")
    with pytest.raises(KbitError, match="is of another recipe, other data or other options"):
        run_law(recipe, base=tmp_path, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("members = [", "members = []\nother = [", "unknown key"),
        ('members = ["net.py:small", "net.py:middle", "net.py:large"]', "", "law.members is missing"),
        ("bits = [1,", "bits = [2.5,", "2.5 is no width"),
        ("groups = [16, 0]", 'groups = [16]\ncheckpoints = ["a.pt"]', "has 1 entries, law.members 3"),
        ('evaluation = "data.npz"', "", "data.evaluation is missing"),
    ],
)
def test_mistakes_are_one_line(family: Path, tmp_path: Path, old: str, new: str, line: str) -> None:
    assert old in RECIPE
    path = family / "wrong.toml"
    path.write_text(RECIPE.replace(old, new))
    with pytest.raises(RecipeError, match=line):
        run_law(read_recipe(path), base=family, out=tmp_path)


def test_a_scheduler_that_is_not_there_is_one_line(family: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(KbitError, match="no Dask scheduler answers"):
        run_law(read_recipe(family / "law.toml"), base=family, out=tmp_path, scheduler="tcp://127.0.0.1:9")


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_table(family: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    text = RECIPE.replace("bits = [1, 1.58, 2, 4, 8, 16]\ngroups = [16, 0]", "bits = [4, 16]\ngroups = [0]")
    (family / "few.toml").write_text(text)
    recipe = read_recipe(family / "few.toml")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        there = run_law(recipe, base=family, out=tmp_path / "there", scheduler=cluster.scheduler_address)
    here = run_law(recipe, base=family, out=tmp_path / "here", workers=1)
    assert there.to_json() == here.to_json()
