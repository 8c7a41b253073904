"""The peers' environments. Each is made on its first use, or KBIT_LITERT, KBIT_ONNX2TF, KBIT_GENAI or KBIT_LLAMA name
their Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["genai", "litert", "llama", "onnx2tf"]

LITERT = ("torch==2.13.0", "litert-torch==0.10.0", "ai-edge-quantizer==0.10.0")
ONNX2TF = ("onnx2tf==1.29.*", "tensorflow-cpu==2.19.*", "tf-keras==2.19.*", "onnx==1.19.*", "onnx-graphsurgeon",
           "onnxruntime", "sng4onnx", "onnxsim", "psutil", "ai-edge-litert")  # fmt: skip
GENAI = ("torch==2.13.0", "onnxruntime-genai==0.18.0", "onnxruntime==1.32.*", "onnx>=1.23", "onnx-ir", "onnxscript",
         "transformers==5.23.*", "requests")  # fmt: skip
LLAMA = ("numpy", "xllamacpp==2026.10.11549", "gguf==0.19.*", "safetensors")


def genai() -> Path:
    """Python of an environment with onnxruntime-genai and its model builder."""
    return _made("KBIT_GENAI", "out/genai", GENAI)


def llama() -> Path:
    """Python of an environment with llama.cpp, in a wheel of bindings, and its file format."""
    return _made("KBIT_LLAMA", "out/llama", LLAMA)


def litert() -> Path:
    """Python of an environment with litert-torch and ai-edge-quantizer (about 3 GB)."""
    return _made("KBIT_LITERT", "out/peers", LITERT)


def onnx2tf() -> Path | None:
    """Python of an environment with onnx2tf (about 3 GB); None when it does not install."""
    try:
        return _made("KBIT_ONNX2TF", "out/onnx2tf", ONNX2TF)
    except subprocess.CalledProcessError:
        return None


def _made(variable: str, folder: str, packages: tuple[str, ...]) -> Path:
    python = Path(os.environ.get(variable, f"{folder}/bin/python"))
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
        for package in (packages[0], " ".join(packages[1:])):  # the first one decides which torch comes
            command = [str(python), "-m", "pip", "install", "--quiet", *package.split()]
            subprocess.run(command, check=True)
    return python
