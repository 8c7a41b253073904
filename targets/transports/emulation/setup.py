"""Build the boards' userland once, in a cache folder of the user's: Debian arm64, and the wheels of PyPI."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata, resources
from pathlib import Path

from targets.transports.emulation.boards import BOARDS, cores, cpuinfo
from targets.types import Progress, TargetError

__all__ = ["cache_folder", "missing_packages", "prepare", "remove"]

_PYTHON = "3.11"  # of Debian 12, which Raspberry Pi OS (bookworm) is made from
_DEBIAN = (
    "base-files,bash,coreutils,dash,sed,grep,tar,gzip,findutils,procps,util-linux,libc-bin,libstdc++6,libgomp1,"
    "libatomic1,python3,ca-certificates"
)
_PLATFORMS = ("manylinux_2_34", "manylinux_2_31", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
# program (or file) -> Debian's package
_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "qemu-aarch64-static": "qemu-user-static",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "unshare": "util-linux",
}
_HOME = "home/pi"
_SPAN_S = 1800.0


def cache_folder() -> Path:
    """``~/.cache/kbit/boards`` (XDG_CACHE_HOME is heeded): all that the emulated boards need."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kbit" / "boards"


def remove() -> Path:
    """Remove every board; returns the folder that is gone."""
    folder = cache_folder()
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def missing_packages() -> list[str]:
    """Debian packages that are needed here and not installed."""
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [package for program, package in _PROGRAMS.items() if not shutil.which(program, path=places)]


def prepare(progress: Progress) -> Path:
    """The folder with rootfs/ and boards/: built on first use, in about a minute.

    Raises TargetError: not Linux, a package missing, a download that fails.
    """
    if not sys.platform.startswith("linux"):
        raise TargetError("emulated boards need Linux", "check on a board over SSH, or on a phone: kbit serve")
    missing = missing_packages()
    if missing:
        raise TargetError(
            f"emulated boards need programs that are missing here: {', '.join(missing)}",
            f"sudo apt install {' '.join(missing)}",
        )
    folder = cache_folder() / _key()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another check may be building it
        _once(folder, "rootfs.done", lambda: _debian(folder), progress, "set up the boards: Debian arm64")
        _once(folder, "wheels.done", lambda: _wheels(folder), progress, "set up the boards: wheels")
        _once(folder, "boards.done", lambda: _faces(folder), progress, "set up the boards: files")
    return folder


def _wanted() -> tuple[str, ...]:
    """The host's versions of the runtimes, so that nothing but the processor differs."""
    found = ["numpy>=2"]
    for package in ("onnxruntime", "ai-edge-litert"):
        try:
            found.append(f"{package}=={metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(package)
    return tuple(found)


def _key() -> str:
    """Another version of a runtime, or of this recipe, is another folder."""
    script = resources.files(__package__).joinpath("enter.sh").read_text("utf-8")
    parts = ("1", script, _PYTHON, _DEBIAN, str(cores()), *_wanted())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _once(folder: Path, mark: str, build: Callable[[], None], progress: Progress, step: str) -> None:
    if (folder / mark).exists():
        return
    progress(step, 0, None)
    build()
    (folder / mark).touch()


def _debian(folder: Path) -> None:
    """Packages are unpacked, not configured: nothing is emulated. As a tar file, so that all is the user's own."""
    rootfs = folder / "rootfs"
    shutil.rmtree(rootfs, ignore_errors=True)
    rootfs.mkdir()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        packed = str(Path(scratch) / "rootfs.tar")
        skipped = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")]
        _run("building Debian arm64", [
            "mmdebstrap", "--quiet", "--architectures=arm64", "--variant=extract", f"--include={_DEBIAN}",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", '--aptopt=Apt::Install-Recommends "false"', *skipped,
            "bookworm", packed, *_sources(),
        ])  # fmt: skip
        _run("unpacking Debian arm64", [
            "tar", "-x", "-f", packed, "-C", str(rootfs), "--no-same-owner", "--exclude=./dev/*", "--exclude=./proc/*",
        ])  # fmt: skip


def _sources() -> list[str]:
    """Debian's own hosts get the system's list, which may name a mirror that can be reached."""
    try:
        system = Path("/etc/os-release").read_text("utf-8")
    except OSError:
        return []
    if "VERSION_CODENAME=bookworm" not in system:
        return []
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.sources"))]
    return [str(place) for place in places if place.is_file() and "bookworm" in place.read_text("utf-8", "replace")][:1]


def _wheels(folder: Path) -> None:
    place = folder / "rootfs" / "usr" / "local" / "lib" / f"python{_PYTHON}" / "dist-packages"
    shutil.rmtree(place, ignore_errors=True)
    abi = f"cp{_PYTHON.replace('.', '')}"
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", _PYTHON, "--no-compile", "--quiet"]
    options += [word for name in (abi, "abi3", "none") for word in ("--abi", name)]
    options += [word for name in _PLATFORMS for word in ("--platform", f"{name}_aarch64")]
    _run("installing the wheels", [
        sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--target", str(place), *options,
        *_wanted(),
    ])  # fmt: skip
    compiler = shutil.which(f"python{_PYTHON}") or sys.executable
    if f"{sys.version_info.major}.{sys.version_info.minor}" == _PYTHON or compiler != sys.executable:
        library = folder / "rootfs" / "usr" / "lib" / f"python{_PYTHON}"  # starting Python takes a third of the time
        words = [
            compiler,
            "-m",
            "compileall",
            "-q",
            "-j0",
            "-s",
            str(folder / "rootfs"),
            "-p",
            "/",
            str(library),
            str(place),
        ]
        subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _faces(folder: Path) -> None:
    """What the guest sees in /etc, /proc and /sys, and a root for each board to count instructions in."""
    rootfs = folder / "rootfs"
    (rootfs / "etc" / "passwd").write_text(f"root:x:0:0::/root:/bin/bash\npi:x:0:0::/{_HOME}:/bin/bash\n")
    (rootfs / "etc" / "group").write_text("root:x:0:\n")
    (rootfs / "etc" / "hostname").write_text("raspberrypi\n")
    for part in (_HOME, "proc", "tmp", "dev", "sys"):
        (rootfs / part).mkdir(parents=True, exist_ok=True)
    for device in ("null", "zero", "full", "random", "urandom"):
        (rootfs / "dev" / device).touch()
    cpu = rootfs / "sys" / "devices" / "system" / "cpu"
    cpu.mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present", "online"):
        (cpu / name).write_text(f"0-{cores() - 1}\n" if cores() > 1 else "0\n")
    (cpu / "kernel_max").write_text(f"{cores() - 1}\n")
    for number in range(cores()):
        topology = cpu / f"cpu{number}" / "topology"
        topology.mkdir(parents=True, exist_ok=True)
        (topology / "core_id").write_text(f"{number}\n")
        (topology / "physical_package_id").write_text("0\n")
    for name, board in BOARDS.items():
        face = folder / "boards" / name
        shutil.rmtree(face, ignore_errors=True)
        (face / "root" / "proc").mkdir(parents=True)
        (face / "cpuinfo").write_text(cpuinfo(board))
        (face / "root" / "proc" / "cpuinfo").write_text(cpuinfo(board))
        for part in ("usr", "lib", "bin", "etc", "sys"):
            (face / "root" / part).symlink_to(rootfs / part)
    (folder / "enter").write_bytes(resources.files(__package__).joinpath("enter.sh").read_bytes())
    (folder / "enter").chmod(0o755)


def _run(what: str, words: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            list(words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SPAN_S, check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"{what} took longer than {_SPAN_S / 60:.0f} minutes", "is the network there?") from error
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["no reason given"]
        said = next((line for line in reversed(lines) if "rror" in line or line.startswith("E:")), lines[-1])
        raise TargetError(
            f"{what} failed: {said.strip()}", "is the network there, and is there room in the cache folder?"
        )
