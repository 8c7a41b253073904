"""The real adb client, against a stand-in for the phone's end of it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from targets import TargetError, check
from tests.device.adbd import Adbd
from tests.device.loopback import need_programs, small_bundle
from tests.device.test_ssh import once

pytestmark = pytest.mark.xdist_group("adb")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("adb") / "bundle", max_drop=100.0)


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Adbd]:
    """Connected; Python is found as Termux has it, on PATH."""
    need_programs("adb")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tools / "python3").chmod(0o755)
    (tmp_path / "store").mkdir()
    found = Adbd({"PATH": f"{tools}:/usr/bin:/bin", "KBIT_DIR": str(tmp_path / "store"), "HOME": "/"})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(probe.getsockname()[1]))
    monkeypatch.setenv("HOME", str(tmp_path))  # adb's keys
    connected = subprocess.run(
        ["adb", "connect", f"127.0.0.1:{found.port}"], capture_output=True, text=True, check=False
    )
    assert "connected to" in connected.stdout, connected
    yield found
    subprocess.run(["adb", "kill-server"], check=False, capture_output=True)
    found.close()


def left(phone: Adbd) -> list[str]:
    return [os.path.join(folder, name) for folder, _, names in os.walk(phone.environment["KBIT_DIR"]) for name in names]


def test_a_check_over_adb(phone: Adbd, bundle: Path) -> None:
    found = check(bundle, f"adb:127.0.0.1:{phone.port}")
    assert found["passed"], found["reasons"]
    for figures in found["artifacts"].values():
        assert figures["host"]["equal"] == 1.0
    assert left(phone) == []


def test_a_phone_without_python_is_shown_the_other_ways(phone: Adbd, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "python3").unlink()
    for name in ("sh", "mkdir", "mktemp", "rm", "rmdir"):
        (tmp_path / "bin" / name).symlink_to(f"/usr/bin/{name}")
    phone.environment["PATH"] = str(tmp_path / "bin")
    with pytest.raises(TargetError, match="no Python 3 there; kbit serve runs the bundle in the phone's browser"):
        check(bundle, f"adb:127.0.0.1:{phone.port}")


def test_no_such_device(phone: Adbd, bundle: Path) -> None:
    with pytest.raises(TargetError, match="adb:0123456789: no such device is connected; adb devices lists them"):
        check(bundle, "adb:0123456789")


@pytest.mark.parametrize("step", ["send", "float on"], ids=["while sending", "while running"])
def test_the_cable_is_pulled(step: str, phone: Adbd, bundle: Path) -> None:
    with pytest.raises(TargetError) as caught:
        check(bundle, f"adb:127.0.0.1:{phone.port}", progress=once(step, phone.cut))
    assert re.match(r"adb:127.0.0.1:\d+: ", str(caught.value))
    assert "\n" not in str(caught.value)


def test_adb_is_not_installed(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="adb is not installed here; sudo apt install adb"):
        check(bundle, "adb")
