"""A real sshd on loopback, as an ordinary device would be reached; its files lie in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

__all__ = ["Device", "leftovers", "need_programs", "processes_of", "small_bundle"]

_SSHD = "/usr/sbin/sshd"


def need_programs(*names: str) -> None:
    """Skip with the command that installs what is missing."""
    packages = {"sshd": "openssh-server", "ssh": "openssh-client", "gcc": "gcc libc6-dev", "adb": "adb"}
    missing = [n for n in names if not shutil.which(n, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: sudo apt install {' '.join(packages[n] for n in missing)}")


class Device:
    """One sshd. ``store`` is where the checker may write; ``python`` what it finds there as Python."""

    def __init__(self, folder: Path, **environment: str) -> None:
        need_programs("sshd", "ssh")
        self.folder, self.store = folder, folder / "store"
        self.store.mkdir(parents=True)
        for name in ("host", "user", "other"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # its privilege separation wants it
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        variables = " ".join(f"{k}={v}" for k, v in {"KBIT_DIR": str(self.store), **environment}.items())
        (folder / "sshd.conf").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {folder}/user.pub\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"UsePAM no\nPermitRootLogin yes\nSetEnv {variables}\n"
        )
        self.known("host")
        self.identity("user")
        (folder / "bin").mkdir()
        wrapper = folder / "bin" / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh.conf "$@"\n')
        wrapper.chmod(0o755)
        log = (folder / "sshd.log").open("wb")
        self.server = subprocess.Popen(
            [_SSHD, "-D", "-e", "-f", str(folder / "sshd.conf")], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
        log.close()
        while "Server listening" not in (folder / "sshd.log").read_text():
            assert self.server.poll() is None, (folder / "sshd.log").read_text()
            time.sleep(0.02)

    def known(self, key: str) -> None:
        """The client knows the device by this key."""
        public = (self.folder / f"{key}.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}")

    def identity(self, key: str) -> None:
        """The client logs in with this key."""
        (self.folder / "ssh.conf").write_text(
            f"Host *\n IdentityFile {self.folder}/{key}\n IdentitiesOnly yes\n IdentityAgent none\n"
            f" UserKnownHostsFile {self.folder}/known_hosts\n GlobalKnownHostsFile none\n"
        )

    def target(self, monkeypatch: pytest.MonkeyPatch, python: str = sys.executable) -> str:
        """Name of a target that reaches it, as a user's own file."""
        targets = self.folder / "config" / "kbit" / "targets"
        targets.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(self.folder / "config"))
        monkeypatch.setenv("PATH", f"{self.folder / 'bin'}:{os.environ['PATH']}")
        text = f'address = "ssh://127.0.0.1:{self.port}"\npython = "{python}"\n'
        (targets / "board.toml").write_text(text + '[runtimes]\nonnxruntime = "1.18"\ntflite = "2.14"\n')
        return "board"

    def signal_sessions(self, number: signal.Signals) -> None:
        """To the sshd processes of all open connections: their children are not touched."""
        for pid in _children(self.server.pid):
            for inner in (*_children(pid), pid):
                if "sshd" in Path(f"/proc/{inner}/comm").read_text():
                    os.kill(inner, number)

    def close(self) -> None:
        self.server.kill()
        self.server.wait()


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processes_of(folder: Path) -> list[int]:
    """Processes with this folder on their command line, sshd and ssh left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words and b"ssh" not in words.split(b"\0")[0]:
            found.append(int(entry.name))
    return found


def leftovers(device: Device, wait_s: float = 20) -> list[object]:
    """What is still on the device once it has noticed that we are gone: files, processes."""
    end = time.monotonic() + wait_s
    while True:
        files = [str(Path(folder) / name) for folder, _, names in os.walk(device.store) for name in (*names, "")]
        left: list[object] = [*files[1:], *processes_of(device.store)]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.1)


def small_bundle(out: Path, **keys: object) -> Path:
    """A convnet with random weights on random images."""
    import numpy as np

    import exporter
    from tests.test_bundle import small_model

    out.parent.mkdir(parents=True, exist_ok=True)
    model = small_model(out.parent / "small.onnx")
    rng = np.random.default_rng(1)
    data = {"image": rng.standard_normal((40, 3, 8, 8)).astype(np.float32), "labels": rng.integers(0, 4, 40)}
    made = exporter.export(
        model, calibration={"image": data["image"]}, evaluation=data, out=out, min_agreement=0.9, **keys
    )
    return made.path
