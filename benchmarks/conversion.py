"""Time and memory of conversion to TFLite: kbit, litert-torch and, where it installs, onnx2tf; a process each, in turn.

python -m benchmarks.conversion [NET...] [--rounds 3] [--limit 600]

ResNet-20, a MobileNetV2 and a perceptron of 400 MB. Ours and onnx2tf start from the ONNX file, litert-torch from the
torch module, since they have no other way in; seconds are without imports, memory is the process's peak. The peers
have environments of their own (see benchmarks/peers.py).
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

from benchmarks.measure import ROOT, machine, table
from benchmarks.peak import peak_bytes

NETS = ("resnet20", "mobilenet_v2", "large_mlp")
_LAYERS, _WIDTH = 6, 4096


def large_mlp():  # type: ignore[no-untyped-def]
    """Six linear layers of 4,096 x 4,096: 403 MB of weights."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [layer for _ in range(_LAYERS) for layer in (nn.Linear(_WIDTH, _WIDTH), nn.ReLU())]
    return nn.Sequential(*layers).eval()


def export(name: str, path: Path) -> float:
    """torch -> ONNX file, for those who start there; seconds."""
    import torch

    from tests.zoo.cases import CASES, build, samples

    if name == "large_mlp":
        net, example = large_mlp(), (torch.zeros(1, _WIDTH),)
    else:
        net, example = build(CASES[name]), tuple(map(torch.from_numpy, samples(CASES[name], 1, 0).values()))
    start = time.perf_counter()
    program = torch.onnx.export(net, example, dynamo=True, opset_version=21, verbose=False)
    assert program is not None
    program.save(str(path), external_data=False)
    return time.perf_counter() - start


def ours(source: Path, out: Path) -> None:
    """Convert and print one line of JSON; in a process of its own."""
    from exporter import conversion

    start = time.perf_counter()
    conversion.convert(source, "tflite", out, channels_last=True)
    seconds = time.perf_counter() - start
    print(json.dumps({"convert": seconds, "peak": peak_bytes()}))


def run(command: list[str], limit: int) -> dict[str, float]:
    """The JSON of the last line."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit} s"}  # type: ignore[dict-item]
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": said[-1][:160]}  # type: ignore[dict-item]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """For each net and tool: median seconds, peak memory in MB, and both over those of litert-torch."""
    from benchmarks.peers import litert, onnx2tf

    parser = argparse.ArgumentParser()
    parser.add_argument("nets", nargs="*", default=NETS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=600, help="seconds for one conversion")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.nets:
            source, out = Path(folder) / f"{name}.onnx", Path(folder) / f"{name}.tflite"
            exported = export(name, source)
            commands = {
                "kbit": [sys.executable, "-m", "benchmarks.conversion", "--ours", str(source), str(out)],
                "litert-torch": [str(litert()), "-m", "benchmarks.peers_zoo", folder, name],
            }
            if onnx2tf() is not None:
                commands["onnx2tf"] = [str(onnx2tf()), "-m", "benchmarks.peers_onnx2tf", str(source), folder]
            found = {who: [] for who in commands}  # type: ignore[var-annotated]
            for _ in range(given.rounds):
                for who, command in commands.items():
                    if not any("error" in r for r in found[who]):
                        found[who].append(run(command, given.limit))
            base = found["litert-torch"]
            for who, runs in found.items():
                rows.append(_row(name, who, runs, base))
            rows.append([name, "torch.onnx.export, once for both runtimes", f"{exported:.2f}", "", "", ""])
    print(machine("onnx-ir", "ai-edge-litert"), "\n")
    print(table(["net", "", "s", "of litert-torch's", "peak MB", "of litert-torch's"], rows))


def _row(name: str, who: str, runs: list[dict[str, float]], base: list[dict[str, float]]) -> list[object]:
    broken = [r["error"] for r in runs if "error" in r]
    if broken:
        return [name, who, broken[0], "", "", ""]
    seconds, peak = median(r["convert"] for r in runs), median(r["peak"] for r in runs)
    if any("error" in r for r in base):
        return [name, who, f"{seconds:.2f}", "", f"{peak / 1e6:.0f}", ""]
    ratios = [seconds / median(r["convert"] for r in base), peak / median(r["peak"] for r in base)]
    return [name, who, f"{seconds:.2f}", f"{ratios[0]:.3f}", f"{peak / 1e6:.0f}", f"{ratios[1]:.3f}"]


if __name__ == "__main__":
    if "--ours" in sys.argv:
        ours(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
