"""What widths buy where: shipped rows, users' own, and what a planner reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter import probing
from targets import TargetError, list_targets
from targets.capabilities import Capability, buys_nothing, capabilities, gains, save


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_rows_are_kept_and_come_first() -> None:
    rows = [
        Capability("Conv 3x3", "tflite", 8, 8, True, 2.5),
        Capability("MatMul 512", "onnxruntime", 4, 0, False, 0.9),
    ]
    place = save("ssh://pi@kitchen:22", rows)
    assert place.is_file()
    assert capabilities("ssh://pi@kitchen:22") == rows
    assert buys_nothing("ssh://pi@kitchen:22", "onnxruntime", 4, 0) == ["MatMul 512"]
    assert buys_nothing("ssh://pi@kitchen:22", "tflite", 8, 8) == []
    place.write_text("[{}]")
    with pytest.raises(TargetError, match="not a table of capabilities"):
        capabilities("ssh://pi@kitchen:22")


def test_shipped_rows_are_sound() -> None:
    shipped = {target.name: capabilities(target.name) for target in list_targets()}
    assert shipped["emulated-pi5"]
    assert shipped["raspberry-pi-5"] == shipped["emulated-pi5"], "until somebody has measured the board itself"
    for rows in shipped.values():
        for row in rows:
            assert row.low_bits == gains(row.speed)
            assert row.source in {"latency", "instructions"}
    assert capabilities("nonesuch") == []


@pytest.mark.slow
def test_probe(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    monkeypatch.setattr(probing, "_PROBES", probing._PROBES[:1])
    rows, place = probing.probe("host", lambda *_: None)
    assert {row.runtime for row in rows} == {"onnxruntime", "tflite"}
    assert all(row.op == "Conv 3x3" and row.speed > 0 for row in rows)
    assert place.is_relative_to(own_folder)
    assert capabilities("host") == rows
