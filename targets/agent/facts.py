"""What this device is and has: processor, memory, Python, runtimes. Reads, and changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from typing import Any

__all__ = ["RUNTIMES", "device", "version"]

# runtime -> packages that hold it, best first
RUNTIMES: Any = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tflite": ("ai-edge-litert", "tflite-runtime", "tensorflow-cpu", "tensorflow"),
}
# our word -> the kernel's, in /proc/cpuinfo (Arm: Features; x86: flags); arch/arm64/kernel/cpufeature.c
_ISA: Any = {
    "neon": ("asimd", "neon"),
    "fp16": ("asimdhp",),
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
    "sve": ("sve",),
    "avx2": ("avx2",),
    "avx512f": ("avx512f",),
    "avx512_vnni": ("avx512_vnni",),
    "avx_vnni": ("avx_vnni",),
    "amx_int8": ("amx_int8",),
}
# pytorch/cpuinfo reads these; without them LiteRT runs without XNNPACK and says nothing
_CPU_FILES = ("/proc/cpuinfo", "/sys/devices/system/cpu/possible", "/sys/devices/system/cpu/present")


def device(folder: Any = None) -> Any:
    """Plain data. folder: where the disk's free space is asked for."""
    cpuinfo = _cpuinfo()
    words = set((cpuinfo.get("features") or cpuinfo.get("flags") or "").split())
    cpu = cpuinfo.get("model name") or cpuinfo.get("hardware") or cpuinfo.get("model")
    found = {
        "machine": platform.machine(),
        "cpu": cpu or platform.processor() or platform.machine(),
        "model": cpuinfo.get("model", "") if not cpuinfo.get("model", "").isdigit() else "",
        "isa": [name for name, aliases in _ISA.items() if words & set(aliases)],
        "cores": os.cpu_count(),
        "virtual": "hypervisor" in words,
        "memory_mb": _memory("MemTotal"),
        "memory_free_mb": _memory("MemAvailable"),
        "system": platform.system() + " " + platform.release(),
        "distribution": _distribution(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "packages": packages(),
        "missing_files": [p for p in _CPU_FILES if sys.platform.startswith("linux") and not _readable(p)],
        "telemetry_off": os.environ.get("KBIT_TELEMETRY", os.environ.get("ORT_DISABLE_TELEMETRY")) == "1",
    }
    if folder:
        found["disk_free_mb"] = shutil.disk_usage(folder).free // (1 << 20)
    return found


def packages() -> Any:
    """numpy and every package of a runtime that is installed, with its version; nothing is imported."""
    found = {}
    for name in ("numpy", *(p for names in RUNTIMES.values() for p in names)):
        number = version(name)
        if number:
            found[name] = number
    return found


def version(package: Any) -> Any:
    """Version of an installed package, None without it."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpuinfo() -> Any:
    """Keys in lower case; of several processors the last one."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            pairs = [line.split(":", 1) for line in file if ":" in line]
    except OSError:
        return {}
    return {key.strip().lower(): value.strip() for key, value in pairs}


def _memory(key: Any) -> Any:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) // 1024
    except OSError:
        pass
    return None


def _distribution() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            for line in file:
                if line.startswith("PRETTY_NAME="):
                    return line.split("=", 1)[1].strip().strip('"')
    except OSError:
        pass
    return ""


def _readable(path: Any) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return bool(file.read(1))
    except OSError:
        return False
