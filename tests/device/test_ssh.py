"""SSH against a real sshd: what works, and every fault in one clear line with nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from targets import TargetError, check
from targets.check import bundle_files, verified
from tests.device.loopback import Device, leftovers, need_programs, processes_of, small_bundle

pytestmark = pytest.mark.xdist_group("ssh")
Act = Callable[[str, int, "int | None"], None]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("ssh") / "bundle", max_drop=100.0)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    found = Device(tmp_path / "device")
    yield found
    found.close()


def fails(device: Device, bundle: Path, target: str, act: Act | None = None) -> str:
    """The one line of a check that must fail; nothing may be left on the device."""
    with pytest.raises(TargetError) as caught:
        check(bundle, target, progress=act)
    line = str(caught.value)
    assert "\n" not in line
    assert leftovers(device) == []
    return line


def test_a_check_over_ssh_is_the_check_here(device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    found = check(bundle, device.target(monkeypatch), progress=lambda step, done, total: steps.append(step))
    here = check(bundle, "host")
    assert found["passed"], found["reasons"]
    assert found["target"] == "board"
    for name, figures in here["artifacts"].items():
        assert found["artifacts"][name]["metric"] == figures["metric"]
        assert found["artifacts"][name]["golden"]["equal"] == 1.0
    assert "send to board" in steps
    assert "tflite on board" in steps
    assert leftovers(device) == []


def test_files_that_are_kept_travel_once(
    device: Device, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = device.target(monkeypatch)
    kept = device.store / "kbit" / "kept"
    sent: list[int] = []

    def progress(step: str, done: int, total: int | None) -> None:
        if step == "send to board":
            sent.append(total or 0)

    def checked(folder: Path, keep: bool) -> int:
        sent.clear()
        assert check(folder, target, keep=keep, progress=progress)["passed"]
        return max(sent, default=0)

    size = sum(path.stat().st_size for path in bundle_files(bundle, verified(bundle)).values())
    assert checked(bundle, keep=True) == size
    assert checked(bundle, keep=True) == 0, "nothing changed"
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    manifest = other / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"gates": {"max_drop": 99.0}}))
    assert checked(other, keep=True) == manifest.stat().st_size, "only what changed"
    (kept / sorted(os.listdir(kept))[0]).write_bytes(b"altered")
    assert checked(other, keep=True) > 0, "what was altered there is sent again"
    assert len(list(kept.iterdir())) == len(bundle_files(other, verified(other))), "no file of an older bundle"
    assert checked(other, keep=False) == 0
    assert leftovers(device) == []


def other_key(device: Device) -> None:
    device.identity("other")


def changed_host_key(device: Device) -> None:
    device.known("other")


def unknown_host_key(device: Device) -> None:
    (device.folder / "known_hosts").write_text("")


def nobody_listens(device: Device) -> None:
    device.close()


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (nobody_listens, r"board: connection refused.*switch SSH on"),
        (other_key, r"board: it does not accept your key; ssh-copy-id"),
        (changed_host_key, r"board: its host key is another than the known one.*ssh-keygen -R"),
        (unknown_host_key, r"board: its host key is not known yet"),
    ],
)
def test_it_cannot_be_reached(
    prepare: Callable[[Device], None], said: str, device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = device.target(monkeypatch)
    prepare(device)
    assert re.search(said, fails(device, bundle, target))


def test_no_such_host(device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device.target(monkeypatch)
    assert "no such host name" in fails(device, bundle, "ssh://pi@nonesuch.invalid")


def test_no_python(device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = fails(device, bundle, device.target(monkeypatch, "/nonesuch/python3"))
    assert re.search(r"board: no Python 3 there; sudo apt install", line)


def an_environment(folder: Path, *packages: str) -> str:
    """Python with these packages of ours and no other."""
    venv.create(folder, with_pip=False)
    (place,) = folder.glob("lib/python*/site-packages")
    ours = Path(np.__file__).parents[1]
    for package in packages:
        for entry in (*ours.glob(package), *ours.glob(f"{package}-*.dist-info"), *ours.glob(f"{package}.libs")):
            (place / entry.name).symlink_to(entry)
    return str(folder / "bin" / "python")


@pytest.mark.parametrize(
    ("packages", "said"),
    [
        ((), "board: numpy is not installed.*pip install numpy"),
        (("numpy",), "board: no runtime.*pip install onnxruntime"),
    ],
    ids=["no numpy", "no runtime"],
)
def test_no_runtime(
    packages: tuple[str, ...], said: str, device: Device, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = an_environment(tmp_path / "bare", *packages)
    assert re.search(said, fails(device, bundle, device.target(monkeypatch, python)))


@pytest.mark.slow
def test_too_old_a_runtime(device: Device, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "old", with_pip=True)
    python = str(tmp_path / "old" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime==1.16.3", "numpy<2"], check=True)
    found = check(bundle, device.target(monkeypatch, python))
    assert not found["passed"]
    assert any(re.search("onnxruntime: .*runtime is too old", reason) for reason in found["reasons"]), found["reasons"]
    assert leftovers(device) == []


@pytest.mark.parametrize("size", ["64k", "2m"], ids=["for the checker", "for the bundle"])
def test_a_full_disk(size: str, device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = device.target(monkeypatch)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(device.store)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk: mounting one needs root")
    try:
        if size == "64k":
            (device.store / "other").write_bytes(b"x" * 50_000)
        with pytest.raises(TargetError, match="the disk is full"):
            check(bundle, target)
        assert not list(device.store.glob("kbit"))
        assert processes_of(device.store) == []
    finally:
        subprocess.run(["umount", str(device.store)], check=True)


def once(step: str, act: Callable[[], object]) -> Act:
    """Do it at the first progress of a step."""
    done: list[bool] = []

    def progress(name: str, at: int, total: int | None) -> None:
        if step in name and not done:
            done.append(True)
            act()

    return progress


def killed(device: Device, part: bytes) -> None:
    """SIGKILL, as the kernel does when memory runs out, to the process with this word on its command line."""
    for pid in processes_of(device.store):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if part in words and words[0] != b"sh":
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("step", ["send", "float on"], ids=["while sending", "while running"])
def test_the_connection_is_cut(step: str, device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = device.target(monkeypatch)
    line = fails(device, bundle, target, once(step, lambda: device.signal_sessions(signal.SIGKILL)))
    assert "the connection was cut" in line


@pytest.mark.slow
def test_the_network_falls_silent(device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = device.target(monkeypatch)
    try:
        with pytest.raises(TargetError, match="the connection was cut"):
            check(bundle, target, progress=once("float on", lambda: device.signal_sessions(signal.SIGSTOP)))
    finally:
        device.signal_sessions(signal.SIGCONT)
    assert leftovers(device) == []


@pytest.mark.parametrize("part", [b"--serve", b"--job"], ids=["the one that answers", "the one that checks"])
def test_the_checker_is_killed(part: bytes, device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = fails(device, bundle, device.target(monkeypatch), once("float on", lambda: killed(device, part)))
    assert re.search(r"board: the checker was killed.*out of memory\?", line)


def test_a_worker_is_killed(device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = device.target(monkeypatch)
    found = check(bundle, target, progress=once("tflite on", lambda: killed(device, b"--worker")))
    assert not found["passed"]
    assert any("killed by signal 9 (9: out of memory" in reason for reason in found["reasons"])
    assert leftovers(device) == []


def altered(device: Device, name: str) -> None:
    (path,) = device.store.rglob(name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "golden.npz", "check.pyz"])
def test_a_bundle_that_is_altered_on_the_way(
    name: str, device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = iter(range(100))

    def progress(step: str, done: int, total: int | None) -> None:
        if step.startswith("send") and done == total and not next(files):
            where = device.store if name != "check.pyz" else next(device.store.rglob("bundle"))
            for path in where.rglob(name):
                data = path.read_bytes()
                path.write_bytes(
                    data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
                )

    line = fails(device, bundle, device.target(monkeypatch), progress)
    assert "altered" in line


def test_a_file_that_is_altered_while_it_is_checked(
    device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = device.target(monkeypatch)
    found = check(bundle, target, progress=once("tflite on", lambda: altered(device, "model.onnx")))
    assert not found["passed"]
    assert any("onnxruntime: the file was altered" in reason for reason in found["reasons"])


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/stat.h>
#include <time.h>
int clock_gettime(clockid_t which, struct timespec *now) {  /* an hour later once the file is there */
  static int (*real)(clockid_t, struct timespec *); struct stat s;
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int r = real(which, now);
  if (which == WHICH && !stat(FILE_NAME, &s)) now->tv_sec += 3600;
  return r; }
"""


@pytest.mark.parametrize(
    ("clock", "said", "holds"),
    [
        ("CLOCK_REALTIME", "the wall clock jumped by +3600", True),
        ("CLOCK_MONOTONIC", "the monotonic clock jumped", False),
    ],
)
def test_a_clock_that_jumps(
    clock: str, said: str, holds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_programs("gcc")
    slow = small_bundle(tmp_path / "timed" / "bundle", max_latency_ms=1e6)
    flag, library = tmp_path / "jump", tmp_path / "clock.so"
    (tmp_path / "clock.c").write_text(CLOCK.replace("WHICH", clock).replace("FILE_NAME", f'"{flag}"'))
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    device = Device(tmp_path / "device", LD_PRELOAD=str(library))
    try:
        found = check(slow, device.target(monkeypatch), progress=once("tflite on", flag.touch))
    finally:
        device.close()
    assert any(said in note for note in found["notes"])
    assert found["passed"] is holds
    if not holds:
        assert any("max_latency_ms was not measured" in reason for reason in found["reasons"])


def test_a_login_that_talks_and_a_python_of_the_users(
    device: Device, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a shell's start-up files print must not be taken for the checker."""
    wrapper = device.folder / "talking-python"
    wrapper.write_text(f'#!/bin/sh\necho "Welcome!"\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    assert check(bundle, device.target(monkeypatch, str(wrapper)))["passed"]
