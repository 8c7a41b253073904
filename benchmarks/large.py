"""A model of a gigabyte to TFLite: seconds, throughput and peak memory of the process, imports and all.

python -m benchmarks.large [--gigabytes 1.0] [--rounds 3]

Linear layers of 4,096 x 4,096 with random weights in external data. Nothing is compared but the sizes: that such files
compute the same is what the tests of smaller ones show.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from onnx import helper

from benchmarks.measure import ROOT, machine, table
from benchmarks.peak import peak_bytes

_WIDTH = 4096


def write(path: Path, layers: int) -> int:
    """A chain of MatMul, its weights beside it; bytes of them."""
    data = path.with_suffix(".bin")
    weights, nodes, size = [], [], _WIDTH * _WIDTH * 4
    with data.open("wb") as body:
        for layer in range(layers):
            rng = np.random.default_rng(layer)
            body.write(rng.standard_normal((_WIDTH, _WIDTH), np.float32).tobytes())
            tensor = onnx.TensorProto(name=f"w{layer}", data_type=1, dims=[_WIDTH, _WIDTH], data_location=1)
            for key, value in (("location", data.name), ("offset", layer * size), ("length", size)):
                tensor.external_data.add(key=key, value=str(value))
            weights.append(tensor)
            nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"]))
    ends = [helper.make_tensor_value_info(n, 1, ["N", _WIDTH]) for n in ("x0", f"x{layers}")]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return layers * size


def convert(source: Path, out: Path) -> None:
    """In a process of its own: one line of JSON."""
    from exporter import conversion

    start = time.perf_counter()
    conversion.convert(source, "tflite", out)
    seconds = time.perf_counter() - start
    print(json.dumps({"s": seconds, "peak": peak_bytes()}))


def main() -> None:
    """Median seconds, MB a second, and peak memory in MB and over the size of the weights."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "large.onnx", Path(folder) / "large.tflite"
        size = write(source, max(1, round(given.gigabytes * 1e9 / (_WIDTH * _WIDTH * 4))))
        runs = []
        for _ in range(given.rounds):
            out.unlink(missing_ok=True)
            command = [sys.executable, "-m", "benchmarks.large", "--convert", str(source), str(out)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
            assert out.stat().st_size >= size
    seconds, peak = median(r["s"] for r in runs), median(r["peak"] for r in runs)
    print(machine("onnx-ir", "flatbuffers"), "\n")
    row = [
        f"{size / 1e6:.0f}",
        f"{seconds:.2f}",
        f"{size / 1e6 / seconds:.0f}",
        f"{peak / 1e6:.0f}",
        f"{peak / size:.2f}",
    ]
    print(table(["weights, MB", "s", "MB/s", "peak MB", "peak / weights"], [row]))


if __name__ == "__main__":
    if "--convert" in sys.argv:
        convert(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
