"""The runtimes that the page loads: fetched once through npm, proved by their hashes, served from a user cache.

npm checks each package against the lock file; what is served is checked again, file by file, against RUNTIMES.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from targets.types import TargetError

__all__ = ["RUNTIMES", "Runtime", "cache_folder", "is_set_up", "read", "require", "set_up", "versions"]

_ORT = "onnxruntime-web/dist/"
_LITERT = "@litertjs/core/"
_SET_UP = "run once: kbit serve --setup (it needs npm)"
_LIMIT_S = 900


@dataclass(frozen=True, slots=True)
class Runtime:
    """One file of a package: where npm puts it, its sha256, and a text in it that is replaced once it is proved."""

    path: str
    sha256: str
    replace: tuple[bytes, bytes] | None = None


# name below /runtime/ -> the file
RUNTIMES = {
    "ort.wasm.min.mjs": Runtime(
        _ORT + "ort.wasm.min.mjs", "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b"
    ),
    "ort-wasm-simd-threaded.mjs": Runtime(
        _ORT + "ort-wasm-simd-threaded.mjs", "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
    ),
    "ort-wasm-simd-threaded.wasm": Runtime(
        _ORT + "ort-wasm-simd-threaded.wasm", "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
    "ort.webgpu.min.mjs": Runtime(
        _ORT + "ort.webgpu.min.mjs", "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0"
    ),
    "ort-wasm-simd-threaded.asyncify.mjs": Runtime(
        _ORT + "ort-wasm-simd-threaded.asyncify.mjs",
        "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    ),
    "ort-wasm-simd-threaded.asyncify.wasm": Runtime(
        _ORT + "ort-wasm-simd-threaded.asyncify.wasm",
        "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
    ),
    "litert.js": Runtime(
        _LITERT + "dist/index.js",
        "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3",
        (b'"@litertjs/wasm-utils"', b'"./wasm-utils.js"'),  # a browser finds no package by its name in a worker
    ),
    "wasm-utils.js": Runtime(
        "@litertjs/wasm-utils/dist/index.js", "e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2"
    ),
    "litert_wasm_internal.js": Runtime(
        _LITERT + "wasm/litert_wasm_internal.js", "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb"
    ),
    "litert_wasm_internal.wasm": Runtime(
        _LITERT + "wasm/litert_wasm_internal.wasm", "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614"
    ),
    "litert_wasm_compat_internal.js": Runtime(
        _LITERT + "wasm/litert_wasm_compat_internal.js",
        "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5",
    ),
    "litert_wasm_compat_internal.wasm": Runtime(
        _LITERT + "wasm/litert_wasm_compat_internal.wasm",
        "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c",
    ),
    "litert_wasm_threaded_internal.js": Runtime(
        _LITERT + "wasm/litert_wasm_threaded_internal.js",
        "92fe7a720c6deedaa1194c011c79a005ea4f6fc98f533b661cf7900760ab4849",
    ),
    "litert_wasm_threaded_internal.wasm": Runtime(
        _LITERT + "wasm/litert_wasm_threaded_internal.wasm",
        "b5e54eca10f043497edf9a02186332707cae260c550d7ea22b2cae55669596cf",
    ),
}


def cache_folder() -> Path:
    """Where the files of this lock file lie: ``~/.cache/kbit/browser/KEY`` (XDG_CACHE_HOME is heeded)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    key = hashlib.sha256(_pinned("package-lock.json")).hexdigest()[:12]
    return Path(base) / "kbit" / "browser" / key


def is_set_up() -> bool:
    """Whether every runtime of the page lies in the cache folder."""
    return all((cache_folder() / f"{name}.gz").is_file() for name in RUNTIMES)


def require() -> None:
    """Raises TargetError where they are not set up."""
    if not is_set_up():
        raise TargetError("the runtimes of the phone page are not on this machine", _SET_UP)


@cache
def versions() -> dict[str, str]:
    """Runtime ("onnxruntime", "tflite") -> the version that the project pins."""
    pinned = json.loads(_pinned("package.json"))["dependencies"]
    return {"onnxruntime": pinned["onnxruntime-web"], "tflite": pinned["@litertjs/core"]}


def read(name: str) -> bytes:
    """A file of RUNTIMES, gzipped, proved. Raises TargetError when it is not there or is not the pinned one."""
    path = cache_folder() / f"{name}.gz"
    try:
        packed = path.read_bytes()
        data = gzip.decompress(packed)
    except (OSError, EOFError) as error:
        raise TargetError(f"{path} cannot be read ({error})", f"remove it, then {_SET_UP}") from error
    runtime = RUNTIMES[name]
    if hashlib.sha256(data).hexdigest() != runtime.sha256:
        raise TargetError(f"{path} is not the file that this version of kbit pins", f"remove it, then {_SET_UP}")
    if runtime.replace is None:
        return packed
    return gzip.compress(data.replace(*runtime.replace), 1, mtime=0)


def set_up() -> Path:
    """Fetch the pinned packages into the cache unless they are there; returns the folder. Raises TargetError."""
    folder = cache_folder()
    if is_set_up():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise TargetError("npm is not installed", "sudo apt install npm, or see nodejs.org; it is needed once")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for name in ("package.json", "package-lock.json"):
            (Path(scratch) / name).write_bytes(_pinned(name))
        _npm(npm, scratch)
        made = Path(scratch) / "served"
        made.mkdir()
        for name, runtime in RUNTIMES.items():
            data = (Path(scratch) / "node_modules" / runtime.path).read_bytes()
            if hashlib.sha256(data).hexdigest() != runtime.sha256:
                raise TargetError(f"npm gave another {runtime.path} than the pinned one", "look at your npm registry")
            (made / f"{name}.gz").write_bytes(gzip.compress(data, 6, mtime=0))
        shutil.rmtree(folder, ignore_errors=True)  # of a set-up that lacks files
        made.rename(folder)
    return folder


def _npm(npm: str, folder: str) -> None:
    """``npm ci``: exactly the lock file; no scripts of packages run, nothing is reported anywhere."""
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"npm gave nothing in {_LIMIT_S} s", "look at the network, then try again") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "complete log" not in line]
        raise TargetError(f"npm failed: {' '.join(lines[:3])[:300]}", "look at the network and npm config, try again")


def _pinned(name: str) -> bytes:
    return (resources.files("targets.transports.browser") / "npm" / name).read_bytes()
