"""kbit doctor and the formats of continuous integration."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from exporter.cli import main
from targets.agent import facts
from targets.doctor import diagnose
from targets.reporting import junit, workflow_commands, write_summary

GOOD = {
    "machine": "aarch64", "cpu": "Cortex-A76", "model": "Raspberry Pi 5", "isa": ["neon", "dotprod"], "cores": 4,
    "virtual": False, "memory_mb": 8000, "memory_free_mb": 6000, "system": "Linux 6.12", "distribution": "Debian",
    "python": "3.11.2", "executable": "/usr/bin/python3", "missing_files": [], "telemetry_off": True,
    "disk_free_mb": 9000, "packages": {"numpy": "2.4.6", "onnxruntime": "1.32.0", "ai-edge-litert": "2.3.0"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "level", "said"),
    [
        ({}, None, ""),
        ({"python": "3.8.2"}, "bad", "the checker needs 3.9 or later → install a newer Python"),
        ({"packages": {}}, "bad", "numpy is not installed → /usr/bin/python3 -m pip install numpy"),
        ({"packages": {"numpy": "2"}}, "bad", "no onnxruntime.*pip install onnxruntime"),
        ({"packages": {"numpy": "2", "onnxruntime": "1.32"}}, "note", "no LiteRT.*pip install ai-edge-litert"),
        ({"packages": {"numpy": "2"}, "python": "3.9.2"}, "bad", "no LiteRT.*pip install tflite-runtime 'numpy<2'"),
        (
            {"packages": {"numpy": "2"}, "python": "3.9.2"},
            "bad",
            "no wheel of onnxruntime for Python 3.9: use Python 3.10",
        ),
        ({"packages": {"numpy": "2"}, "machine": "armv7l"}, "bad", "no wheel of onnxruntime for armv7l: use a 64-bit"),
        ({"packages": {"numpy": "2.1.0", "tflite-runtime": "2.14.0"}}, "bad", "crashes with numpy 2.1.0.*'numpy<2'"),
        ({"packages": {"numpy": "1.26", "tflite-runtime": "2.14.0"}}, "note", "dynamic int8 .* wrong results"),
        ({"missing_files": ["/proc/cpuinfo"]}, "bad", "/proc/cpuinfo cannot be read: LiteRT then runs without XNNPACK"),
        ({"isa": ["neon"]}, "note", "no dot-product instructions"),
        ({"machine": "x86_64", "isa": ["avx2"]}, "note", "no VNNI"),
        ({"telemetry_off": False}, "note", "telemetry.*export ORT_DISABLE_TELEMETRY=1"),
        ({"memory_free_mb": 90}, "note", "90 MB of memory"),
        ({"disk_free_mb": 12}, "note", "12 MB of disk"),
    ],
)
def test_findings(change: dict, level: str | None, said: str) -> None:
    import re

    found = [f for f in diagnose(GOOD | change) if f.level != "good"]
    if level is None:
        assert found == []
        return
    lines = [f"{f.what} → {f.fix}" for f in found if f.level == level]
    assert any(re.search(said, line) for line in lines), lines


def test_facts_of_this_machine() -> None:
    here = facts.device(".")
    assert set(GOOD) <= set(here)
    assert {"numpy", "onnxruntime", "ai-edge-litert"} <= set(here["packages"])


def test_doctor_from_the_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "✓ Python 3" in capfd.readouterr().out
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["facts"]["cores"] >= 1
    assert main(["doctor", "--on", "ssh://nobody@nonesuch.invalid"]) == 2


RESULT = {
    "target": "board", "passed": False, "notes": ["a note: 50%"],
    "reasons": ["tflite: max_drop: drop 2, limit 1 points", "min_agreement: the artifacts agree on 0.5\x07"],
    "artifacts": {"float": {"metric": 90.0}, "tflite": {"metric": 88.0, "drop": 2.0, "latency_ms": {"p50": 1.5}}},
}  # fmt: skip


def test_junit() -> None:
    suite = ElementTree.fromstring(junit(RESULT, "net"))
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    failed = {
        case.get("name"): [f.get("message") for f in case.findall("failure")] for case in suite.findall("testcase")
    }
    assert failed["net.float"] == []
    assert failed["net.tflite"] == ["tflite: max_drop: drop 2, limit 1 points"]
    assert len(failed["net.bundle"]) == 1


def test_github_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert write_summary(RESULT, "net", None) == []
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page.md"))
    lines = write_summary(RESULT, "net", tmp_path / "junit.xml")
    assert lines == list(workflow_commands(RESULT, "net"))
    assert lines[0] == "::error title=kbit%3A net on board::tflite: max_drop: drop 2, limit 1 points"
    assert lines[-1] == "::notice title=kbit%3A net on board::a note: 50%25"
    assert "| tflite | 88 | 2 | 1.5 |  |" in (tmp_path / "page.md").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["junit.xml", "page.md"]
