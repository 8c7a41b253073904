"""Recurrent keyword nets on real spoken digits: the layer in float, its weights only stored in int8, int8, int4.

python -m benchmarks.recurrent

An LSTM and a GRU of 96 units over 61 frames, trained for half a minute each unless benchmarks/speech/out/ holds the
weights of an earlier run. Top-1 is of the 300 test recordings; bytes and median latency are the checker's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import machine, table
from benchmarks.speech import recurrent
from benchmarks.speech.train import train
from exporter import read_recipe
from exporter.pipeline import run
from exporter.recipe import Recipe, with_overrides

HERE = Path(__file__).parent / "speech"
NETS = {"LSTM": recurrent.lstm, "GRU": recurrent.gru}
RECIPES: dict[str, tuple[str, dict[str, str]]] = {  # weights, and what the recurrent layer has instead
    "layer in float": ("int8", {"weights": "float", "activations": "float"}),
    "int8, only stored": ("int8", {"activations": "float"}),
    "int8": ("int8", {}),
    "int4": ("int4", {}),
}


def recipe(net: str, name: str) -> Recipe:
    """The spoken digits' own, for another net."""
    weights, layer = RECIPES[name]
    files = f"out/{net.lower()}"
    changes: dict[str, Any] = {
        "model.source": f"recurrent:{net.lower()}",
        "model.checkpoint": f"{files}/weights.pt",
        "data.calibration": f"{files}/calibration.npz",
        "data.evaluation": f"{files}/evaluation.npz",
        "gates.max_drop": 100,
        "quantize.weights": weights,
        "quantize.override": [{"match": net, **layer}] if layer else [],
    }
    return with_overrides(read_recipe(HERE / "recipe.toml"), changes)


def row(net: str, name: str) -> list[str]:
    """What the bundle's checker found."""
    with tempfile.TemporaryDirectory() as folder:
        check = run(recipe(net, name), base=HERE, out=Path(folder, "bundle")).check
    real, *files = (check["artifacts"][which] for which in ("float", "onnxruntime", "tflite"))
    found = [net, name, f"{real['metric']:.2f}"]
    for facts in files:
        found += [f"{facts['metric']:.2f}", str(facts["bytes"]), f"{facts['latency_ms']['p50']:.3f}"]
    return [*found, f"{100 * check['agreement']['top1']:.1f}"]


def main() -> None:
    """Accuracy in %, bytes and ms of each net and kind of weights in both runtimes; trains what is missing."""
    for net, make in NETS.items():
        if not (HERE / "out" / net.lower() / "weights.pt").exists():
            train(make, HERE / "out" / net.lower())
    rows = [row(net, name) for net in NETS for name in RECIPES]
    print(machine("torch", "onnxruntime", "ai-edge-litert"), "\n")
    head = ["layer", "weights", "float, %", "ORT, %", "bytes", "ms", "TFLite, %", "bytes", "ms", "agreement, %"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
