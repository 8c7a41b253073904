"""What is wrong with a device before anything runs there, each finding with its fix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from targets.devices_table import get_target
from targets.transports import open_transport
from targets.types import Job, Progress, Target

__all__ = ["Finding", "diagnose", "examine"]

_OLDEST = (3, 9)
_ROOM_MB = 256
# package -> (Pythons with wheels on PyPI, machines): seen in November 2026
_WHEELS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "onnxruntime": (("3.10", "3.11", "3.12", "3.13", "3.14"), ("x86_64", "aarch64", "arm64", "AMD64")),
    "ai-edge-litert": (("3.10", "3.11", "3.12", "3.13", "3.14"), ("x86_64", "aarch64", "arm64", "AMD64")),
    "tflite-runtime": (("3.9", "3.10", "3.11"), ("x86_64", "aarch64", "armv7l")),
}
_TFLITE = ("ai-edge-litert", "tflite-runtime", "tensorflow-cpu", "tensorflow")
_ARM = ("aarch64", "arm64")


@dataclass(frozen=True, slots=True)
class Finding:
    """level: good, note (it works, but), bad (something will not work). fix: what to do, empty where nothing is."""

    level: Literal["good", "note", "bad"]
    what: str
    fix: str = ""


def examine(on: str | Target, progress: Progress) -> tuple[dict[str, Any], list[Finding]]:
    """The device's facts and what follows from them. Raises TargetError when it cannot be reached."""
    target = get_target(on) if isinstance(on, str) else on
    with open_transport(target) as device:
        facts = device.run(Job("facts", {}, 120.0), progress)
    return facts, list(diagnose(facts))


def diagnose(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings about a device, from what the checker says of it (targets/agent/facts.py)."""
    yield from _python(facts)
    yield from _runtimes(facts)
    yield from _known_bad(facts["packages"])
    yield from _processor(facts)
    yield from _room(facts)
    if not facts["telemetry_off"]:
        yield Finding(
            "note",
            "onnxruntime's telemetry is not switched off in your environment (kbit switches it off in its own runs)",
            "export ORT_DISABLE_TELEMETRY=1",
        )


def _python(facts: Mapping[str, Any]) -> Iterator[Finding]:
    version = tuple(int(part) for part in facts["python"].split(".")[:2])
    if version < _OLDEST:
        yield Finding("bad", f"Python {facts['python']}: the checker needs 3.9 or later", "install a newer Python")
    else:
        yield Finding("good", f"Python {facts['python']} ({facts['executable']})")
    if "numpy" not in facts["packages"]:
        yield Finding("bad", "numpy is not installed", f"{facts['executable']} -m pip install numpy")


def _runtimes(facts: Mapping[str, Any]) -> Iterator[Finding]:
    packages = facts["packages"]
    have = {"onnxruntime": "onnxruntime" in packages or "onnxruntime-gpu" in packages}
    have["tflite"] = any(name in packages for name in _TFLITE)
    for name in ("onnxruntime", *_TFLITE):
        if name in packages:
            yield Finding("good", f"{name} {packages[name]}")
    level: Literal["note", "bad"] = "note" if any(have.values()) else "bad"
    if not have["onnxruntime"]:
        yield Finding(level, "no onnxruntime: .onnx artifacts cannot run", _install(facts, "onnxruntime"))
    if not have["tflite"]:
        package = "tflite-runtime" if not _installable(facts, "ai-edge-litert") else "ai-edge-litert"
        yield Finding(level, "no LiteRT: .tflite artifacts cannot run", _install(facts, package))


def _installable(facts: Mapping[str, Any], package: str) -> bool:
    pythons, machines = _WHEELS[package]
    return ".".join(facts["python"].split(".")[:2]) in pythons and facts["machine"] in machines


def _install(facts: Mapping[str, Any], package: str) -> str:
    if _installable(facts, package):
        extra = " 'numpy<2'" if package == "tflite-runtime" else ""
        return f"{facts['executable']} -m pip install {package}{extra}"
    pythons, machines = _WHEELS[package]
    python = ".".join(facts["python"].split(".")[:2])
    if facts["machine"] not in machines:
        return f"PyPI has no wheel of {package} for {facts['machine']}: use a 64-bit system"
    return f"PyPI has no wheel of {package} for Python {python}: use Python {pythons[0]} to {pythons[-1]}"


def _known_bad(packages: Mapping[str, str]) -> Iterator[Finding]:
    old = packages.get("tflite-runtime", "")
    if not old:
        return
    if int(packages.get("numpy", "1").split(".")[0]) >= 2:
        yield Finding(
            "bad", f"tflite-runtime {old} crashes with numpy {packages['numpy']}: it was built for numpy 1",
            "pip install 'numpy<2', or ai-edge-litert in place of tflite-runtime",
        )  # fmt: skip
    yield Finding(
        "note", f"tflite-runtime {old}: its kernels for dynamic int8 with a scale per channel give wrong results",
        "pip install ai-edge-litert",
    )  # fmt: skip
    if "ai-edge-litert" in packages:
        yield Finding("note", "two TFLite runtimes: the checker takes ai-edge-litert", "pip uninstall tflite-runtime")


def _processor(facts: Mapping[str, Any]) -> Iterator[Finding]:
    isa = facts["isa"]
    yield Finding("good", f"{facts['model'] or facts['cpu']}, {facts['cores']} cores, {', '.join(isa) or 'base set'}")
    if facts["missing_files"]:
        yield Finding(
            "bad", f"{', '.join(facts['missing_files'])} cannot be read: LiteRT then runs without XNNPACK, slower and "
            "with other rounding, and says nothing", "mount /proc and /sys into the container or chroot",
        )  # fmt: skip
    if facts["machine"] in _ARM and "dotprod" not in isa:
        yield Finding(
            "note", "no dot-product instructions: int8 gains less here than on newer processors (Cortex-A76 on)"
        )
    if facts["machine"] in ("x86_64", "AMD64") and not {"avx512_vnni", "avx_vnni"} & set(isa):
        yield Finding("note", "no VNNI: int8 gains less here, and 8-bit sums may saturate in ONNX Runtime's kernels")
    if facts["machine"] == "armv7l":
        yield Finding("note", "a 32-bit system: PyPI has no onnxruntime for it", "install the 64-bit Raspberry Pi OS")


def _room(facts: Mapping[str, Any]) -> Iterator[Finding]:
    free = facts.get("memory_free_mb")
    if free is not None and free < _ROOM_MB:
        yield Finding("note", f"{free} MB of memory are free", "close other programs; check one runtime at a time")
    disk = facts.get("disk_free_mb")
    if disk is not None and disk < _ROOM_MB:
        yield Finding("note", f"{disk} MB of disk are free where the checker works", "free some, or set KBIT_DIR")
