"""One ONNX file through onnx2tf. Runs in its environment; others start it.

python -m benchmarks.peers_onnx2tf MODEL.onnx OUT

Prints one line of JSON: seconds with imports left out, and the process's peak memory.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import onnx2tf

from benchmarks.peak import peak_bytes


def main() -> None:
    """Print seconds without imports and peak memory as JSON."""
    source, out = Path(sys.argv[1]), Path(sys.argv[2]) / "onnx2tf"
    start = time.perf_counter()
    onnx2tf.convert(str(source), output_folder_path=str(out), non_verbose=True)
    seconds = time.perf_counter() - start
    print("\n" + json.dumps({"convert": seconds, "peak": peak_bytes()}))


if __name__ == "__main__":
    main()
