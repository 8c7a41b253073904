"""Real models on the emulated boards, over SSH: the same integers as here, and what an inference costs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import resnet20, spoken_digits
from exporter.pipeline import run
from exporter.recipe import with_arguments
from targets import TargetError, check
from targets.transports.emulation import BOARDS, cache_folder, cpuinfo, prepare, remove
from targets.transports.emulation import setup as emulation_setup
from targets.transports.emulation.instructions import count, missing

SAMPLES = 100  # a float inference takes a third of a second in emulation


def need_boards() -> None:
    lacking = [*emulation_setup.missing_packages(), *missing()]
    if lacking:
        pytest.skip(f"emulated boards: sudo apt install {' '.join(lacking)}")


def export_resnet20(out: Path, need: Callable[..., None]) -> Path:
    need("resnet20-12fca82f.th", "cifar10_calib.npz", "cifar10_test2000.npz")
    recipe = with_arguments(resnet20.recipe(), {"evaluation_samples": SAMPLES, "max_drop": 2.0, "min_agreement": 0.99})
    return run(recipe, base=resnet20.RECIPE.parent, out=out).bundle.path


def export_digits(out: Path, need: Callable[..., None]) -> Path:
    need("spoken_digits_8khz.npz")
    return spoken_digits.export(out).bundle.path


EXPORTS = {"digits": export_digits, "resnet20": export_resnet20}


@pytest.fixture(scope="module")
def bundles(need: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = EXPORTS[name](tmp_path_factory.mktemp(name) / "bundle", need)
        return made[name]

    return get


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "board"),
    [pytest.param(name, board, marks=pytest.mark.xdist_group(f"board-{name}")) for name in EXPORTS for board in BOARDS],
)
def test_a_board_gives_the_integers_of_this_machine(name: str, board: str, bundles: Callable[[str], Path]) -> None:
    need_boards()
    bundle = bundles(name)
    found = check(bundle, f"emulated:{board}")
    assert found["passed"], found["reasons"]
    assert found["device"]["machine"] == "aarch64"
    assert ("dotprod" in found["device"]["isa"]) == (board == "pi5")
    here: dict[str, Any] = check(bundle, "host")["artifacts"]
    cost = {}
    for artifact, figures in found["artifacts"].items():
        assert figures["metric"] == here[artifact]["metric"]
        assert figures["host"]["samples"] >= 100
        assert "latency_ms" not in figures
        assert "peak_bytes" not in figures
        cost[artifact] = figures["instructions"]["all"]
    for artifact in ("onnxruntime", "tflite"):
        assert found["artifacts"][artifact]["host"]["equal"] == 1.0, "every output on every sample, bit for bit"
        assert found["artifacts"][artifact]["host"]["max_lsb"] == 0
        if board == "pi5":
            assert cost[artifact] <= 0.75 * cost["float"]


@pytest.mark.slow
@pytest.mark.xdist_group("board-digits")
def test_instruction_counts_of_two_set_ups(
    bundles: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_boards()
    bundle = bundles("digits")
    board = BOARDS["pi5"]
    counts = [count(prepare(lambda *_: None), board, bundle, ["float", "onnxruntime", "tflite"])]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    counts.append(count(prepare(lambda *_: None), board, bundle, ["float", "onnxruntime", "tflite"]))
    for artifact, first in counts[0].items():
        second = counts[1][artifact]
        assert first["all"] == pytest.approx(second["all"], rel=0.005)
        for kind in ("dot_product", "widening_multiply", "float_multiply_add"):
            assert first[kind] == second[kind]
    assert remove() == cache_folder()
    assert not cache_folder().exists()


def test_what_is_missing_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(
        TargetError, match=r"mmdebstrap, qemu-user-static.*sudo apt install mmdebstrap qemu-user-static"
    ):
        prepare(lambda *_: None)


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_a_board_looks_like_the_real_one(board: Any) -> None:
    text = cpuinfo(board)
    assert ("asimddp" in text) == (board.cpu == "cortex-a76")
    assert board.model in text
    assert text.count("processor\t:") <= 4
