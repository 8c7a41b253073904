"""kbit bench: figures, and runs that must not be trusted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from exporter.cli import main
from targets import TargetError
from targets.agent import runtimes, worker
from targets.bench import Wish, bench
from targets.history import append, compare, entry, read
from targets.trust import problems
from tests.device.loopback import small_bundle


def quick(root: Path | str = "/", **wishes: object) -> Wish:
    return Wish(
        **{
            "threads": (1,),
            "precision": 0.5,
            "launches": 3,
            "warm_up": 0.3,
            "seconds": 1.0,
            "root": str(root),
            **wishes,
        }
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bench") / "bundle")


class FakeBoard:
    """/sys and /proc of a board whose state a test sets."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write(temperature=45, clock=2400, flags=0)
        (root / "proc").mkdir(exist_ok=True)
        (root / "proc" / "loadavg").write_text("0.01 0.02 0.03 1/90 1234\n")

    def write(self, temperature: float, clock: int, flags: int) -> None:
        for path, text in {
            "sys/class/thermal/thermal_zone0/temp": f"{int(1000 * temperature)}",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": f"{clock * 1000}",
            "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2400000",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand",
            "sys/devices/platform/soc/soc:firmware/get_throttled": f"{flags:x}",
        }.items():
            place = self.root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            partial = place.with_name(f".{place.name}.partial")
            partial.write_text(text + "\n")
            partial.replace(place)


@pytest.fixture
def board(tmp_path: Path) -> FakeBoard:
    return FakeBoard(tmp_path / "board")


def test_a_run_has_every_figure(bundle: Path, board: FakeBoard) -> None:
    found = bench(bundle, "host", quick(board.root))
    (setting,) = found["settings"]
    assert setting["launches"] >= 3
    assert setting["pinned"] is None or len(setting["pinned"]) == 1
    for name, facts in setting["artifacts"].items():
        assert 0 < facts["low"] <= facts["p50"] <= facts["high"]
        assert facts["p50"] <= facts["p90"]
        assert facts["load_ms"] > 0
        assert facts["first_ms"] > 0
        assert found["peak_bytes"][name] > 1e6
    assert setting["artifacts"]["tflite"]["against_float"]["low"] > 0
    kernels = found["profiles"]["onnxruntime"]
    assert {row["op"] for row in kernels["ops"]} >= {"QLinearConv", "QuantizeLinear"}
    assert sum(row["share"] for row in kernels["ops"]) == pytest.approx(1, abs=0.01)
    assert kernels["float_nodes"] == []
    assert kernels["method"] == "profiler"
    operators = found["profiles"]["tflite"]
    assert operators["method"] == "prefixes"
    assert {row["op"] for row in operators["ops"]} >= {"CONV_2D", "QUANTIZE"}
    assert sum(row["share"] for row in operators["ops"]) == pytest.approx(1, abs=0.01)
    state = setting["conditions"]
    assert state["before"]["governor"] == "ondemand"
    assert state["during"]["temperature_c"] == [45, 45]
    assert not any("throttled" in reason for reason in found["reasons"])


@pytest.mark.parametrize(
    ("temperature", "clock", "flags", "said"),
    [
        (84, 2400, 0, "throttled: 84 degrees C, at 80 the clock is lowered"),
        (60, 1500, 0, "the clock was at 1500 of 2400 MHz for a while (governor ondemand)"),
        (60, 2400, 0b101, "throttled: the firmware says throttled, under-voltage"),
        (60, 2400, 0b10000, ""),
    ],
    ids=["hot", "slower clock", "firmware", "firmware, long ago"],
)
def test_a_throttled_run_is_flagged(
    temperature: float, clock: int, flags: int, said: str, bundle: Path, board: FakeBoard
) -> None:
    def progress(step: str, done: int, total: int | None) -> None:
        if step.startswith("measure") and done == 2:
            board.write(temperature, clock, flags)

    found = bench(bundle, "host", quick(board.root), progress=progress)
    if not said:
        assert not any("throttled" in reason for reason in found["reasons"])
        return
    assert not found["passed"]
    assert not found["trusted"]
    assert any(said in reason for reason in found["reasons"]), found["reasons"]


def test_the_curve_under_load(bundle: Path, board: FakeBoard) -> None:
    found = bench(bundle, "host", quick(board.root, sustained=3.0, artifact="tflite"))
    curve = found["sustained"]
    assert curve["artifact"] == "tflite"
    assert 2 <= len(curve["rows"]) <= 4
    assert all(row["temperature_c"] == 45 and row["clock_mhz"] == 2400 for row in curve["rows"])


@pytest.mark.parametrize(
    ("target", "said"),
    [("emulated:pi5", "emulated-pi5 has no latency that stands for a device"), ("browser", "browser has no latency")],
)
def test_clocks_that_mean_nothing(target: str, said: str, bundle: Path) -> None:
    with pytest.raises(TargetError, match=said):
        bench(bundle, target, quick())


STATE = {"temperature_c": 50.0, "clock_mhz": [1800], "top_mhz": [1800], "governor": "performance", "throttled": [],
         "load": 0.1, "cpu": {"busy": 0, "steal": 0, "all": 0}, "core_throttles": 0, "own_s": 0.0}  # fmt: skip


@pytest.mark.parametrize(
    ("end", "facts", "said"),
    [
        ({"cpu": {"busy": 1000, "steal": 0, "all": 2000}, "own_s": 10.0}, {}, None),
        ({"cpu": {"busy": 1500, "steal": 0, "all": 2000}, "own_s": 10.0}, {}, "other processes used 0.50 of 2 cores"),
        ({"cpu": {"busy": 1000, "steal": 100, "all": 2000}, "own_s": 10.0}, {}, "the hypervisor took 5 %"),
        ({"core_throttles": 3}, {}, "the processor was held back 3 times"),
        ({}, {"low": 0.9, "high": 1.1}, "x is known to 10.0 %, wanted 1.0 %"),
    ],
    ids=["idle", "others", "hypervisor", "x86 throttle", "wide"],
)
def test_what_spoils_a_run(end: dict, facts: dict, said: str | None) -> None:
    launch = {"states": [STATE, STATE | end], "clock": {}, "warm_up": {"stable": True}, "pinned": None}
    found = problems([launch], {"x": {"p50": 1.0, "low": 0.995, "high": 1.005} | facts}, 0.01, 2)
    assert found == [] if said is None else any(said in line for line in found), found


def result(p50: float, half: float = 0.01, trusted: bool = True) -> dict:
    facts = {"p50": p50, "low": p50 * (1 - half), "high": p50 * (1 + half)}
    return {"bundle": "net", "target": "board", "trusted": trusted, "device": {"cpu": "a cpu", "packages": {}},
            "settings": [{"threads": 1, "artifacts": {"tflite": facts}}]}  # fmt: skip


@pytest.mark.parametrize(
    ("then", "now", "tolerance", "worse", "better"),
    [
        (result(1.0), result(1.01), 0.0, False, False),
        (result(1.0), result(1.03), 0.0, True, False),
        (result(1.0), result(1.03), 0.05, False, False),
        (result(1.0), result(0.9), 0.0, False, True),
        (result(1.0, 0.2), result(1.15, 0.2), 0.0, False, False),
        (result(1.0, 0.2), result(2.0, 0.2), 0.0, True, False),
    ],
)
def test_worse_means_by_more_than_the_noise(then: dict, now: dict, tolerance: float, worse: bool, better: bool) -> None:
    (change,) = compare(entry(then), entry(now), tolerance)
    assert (change.worse, change.better) == (worse, better)


def test_compare_from_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "history.jsonl"
    append(history, result(1.0))
    assert main(["compare", str(history)]) == 2
    assert "nothing to compare with" in capfd.readouterr().err
    other = result(9.0) | {"target": "another"}
    append(history, other)
    append(history, result(1.005))
    assert main(["compare", str(history)]) == 0
    assert "same within the noise" in capfd.readouterr().out
    append(history, result(1.2, trusted=False))
    assert main(["compare", str(history), "--json"]) == 1
    assert json.loads(capfd.readouterr().out)["changes"][0]["worse"] is True
    assert main(["compare", str(history), "--tolerance", "30%"]) == 0
    assert "the newer run was noisy or throttled" in capfd.readouterr().out
    assert len(read(history)) == 4
    history.write_text("{\n")
    assert main(["compare", str(history)]) == 2
    assert "line 1: not an entry" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threads", "0"], "expected numbers from 1 on"),
        (["--precision", "5"], "expected 1% or 0.01"),
        (["--time", "soon"], "expected 90s, 10m or 1h"),
        (["--artifact", "nonesuch"], "no artifact 'nonesuch'"),
    ],
)
def test_mistakes(words: list[str], said: str, bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(bundle), *words]) == 2
    assert said in capfd.readouterr().err


@pytest.mark.slow
def test_bench_from_the_command_line(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["bench", str(bundle), "--threads", "1", "--time", "2s", "--precision", "50%"]
    code = main([*words, "--history", str(tmp_path / "h.jsonl"), "--junit", str(tmp_path / "j.xml")])
    out = capfd.readouterr().out
    assert code in {0, 1}
    assert ("NOT passed" in out) == (code == 1)
    assert "●" in out
    assert (bundle / "bench.json").is_file()
    assert len(read(tmp_path / "h.jsonl")) == 1
    assert "<testsuite" in (tmp_path / "j.xml").read_text()


@pytest.mark.slow
def test_medians_are_those_of_a_plain_loop(bundle: Path) -> None:
    """The same file, timed by the shortest loop that can be written, just before and just after."""
    manifest = worker.read(bundle)
    golden = worker.sample_arrays(bundle, manifest["golden"])
    artifact = next(a for a in manifest["artifacts"] if a["name"] == "tflite")
    module, _, _ = runtimes.load_runtime("tflite")
    session = runtimes.open_artifact(module, artifact, bundle / artifact["path"], 1)
    arrays = session.prepare(worker.feeds_of(manifest, golden, 0, 1))

    def plain() -> float:
        times = []
        for _ in range(4000):
            start = time.perf_counter()
            session.invoke(arrays)
            times.append(time.perf_counter() - start)
        return float(np.median(times)) * 1e3

    first = plain()
    found = bench(bundle, "host", Wish((1,), 0.02, seconds=20.0))
    second = plain()
    if abs(first - second) > 0.02 * first or any("other processes" in reason for reason in found["reasons"]):
        pytest.skip("the machine is too busy to compare two timings within 2 %")
    assert found["settings"][0]["artifacts"]["tflite"]["p50"] == pytest.approx((first + second) / 2, rel=0.02)
