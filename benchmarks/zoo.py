"""Every net of the zoo: our float and int8 TFLite files against litert-torch's and ai-edge-quantizer's, interleaved.

python -m benchmarks.zoo [NAME...]

One thread, LiteRT for all four files. The peers' environment: benchmarks/peers.py. Random weights: this says nothing
on accuracy; that the float files compute the same is checked. Latency is the median over rounds in which the files
take turns, a ratio the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.measure import ROOT, interleaved, machine, table
from benchmarks.peers import litert
from exporter import emit_tflite, load, prepare
from exporter.calibration import calibrate
from exporter.emit.tflite import read_tflite
from exporter.preparing import INT8_PASSES
from exporter.quantize import apply, make_plan
from tests.zoo.cases import CASES, Case, build, samples

Arrays = dict[str, np.ndarray]


def ours(case: Case) -> tuple[bytes, bytes]:
    """Float and int8 file, NHWC."""
    loaded = load(build(case), example_inputs=samples(case, 3, 0))
    real = emit_tflite(prepare(loaded), channels_last=True)
    model = prepare(loaded, INT8_PASSES)
    plan = make_plan(model, calibrate(model, [samples(case, 16, seed) for seed in range(8)]))
    return real, emit_tflite(apply(model, plan), plan, channels_last=True)


def theirs(names: list[str], out: Path) -> dict[str, dict[str, object]]:
    """Their files into ``out``; what was said of each net."""
    command = [str(litert()), "-m", "benchmarks.peers_zoo", str(out), *names]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    rows = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return {row["name"]: row for row in rows}


def runner(data: bytes, arrays: list[np.ndarray]) -> tuple[Callable[[], None], Callable[[], list[np.ndarray]]]:
    """One invocation on inputs already in place, and a reader of the outputs."""
    lite = Interpreter(model_content=data, num_threads=1)
    lite.allocate_tensors()
    details = lite.get_input_details()
    for detail, array in zip(details, arrays, strict=True):
        lite.set_tensor(detail["index"], array.astype(detail["dtype"]))
    places = [d["index"] for d in lite.get_output_details()]
    return lite.invoke, lambda: [lite.get_tensor(p) for p in places]


def transposes(data: bytes) -> int:
    """How many TRANSPOSE a file has."""
    return Counter(o.code for s in read_tflite(data).subgraphs for o in s.operators)["TRANSPOSE"]


def compare(name: str, folder: Path) -> list[list[object]]:
    """Rows for float and int8."""
    case = CASES[name]
    arrays = [a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for a in samples(case, 1, 1000).values()]
    rows = []
    for kind, mine in zip(("float", "int8"), ours(case), strict=True):
        path = folder / f"{name}.{kind}.tflite"
        if not path.exists():
            rows.append([name, kind, "", "they do not convert it", "", len(mine), "", transposes(mine), ""])
            continue
        other = path.read_bytes()
        (a, results), (b, their_results) = runner(mine, arrays), runner(other, arrays)
        a()
        b()
        if kind == "float":
            pairs = zip(sorted(results(), key=np.size), sorted(their_results(), key=np.size), strict=True)
            apart = max(float(np.abs(x - y).max() / np.abs(y).max()) for x, y in pairs)
            assert apart < 1e-3, f"{name}: the float files differ by {apart:g}"
        first, second, ratio = interleaved(a, b, rounds=40, calls=10)
        rows.append(
            [
                name,
                kind,
                f"{first:.3f}",
                f"{second:.3f}",
                ratio,
                len(mine),
                len(other),
                transposes(mine),
                transposes(other),
            ]
        )
    return rows


def main(names: list[str]) -> None:
    """For each net, float and int8: ms of both files and their ratio in turns, bytes, TRANSPOSE; then mean ratios."""
    names = names or list(CASES)
    with tempfile.TemporaryDirectory() as folder:
        said = theirs(names, Path(folder))
        rows = [row for name in names for row in compare(name, Path(folder))]
    print(machine("ai-edge-litert"), "\n")
    shown = [[f"{c:.3f}" if isinstance(c, float) else c for c in row] for row in rows]
    print(
        table(
            ["net", "", "ms, ours", "ms, theirs", "ratio", "bytes, ours", "bytes, theirs", "TRANSPOSE, ours", "theirs"],
            shown,
        ),
        "\n",
    )
    for kind in ("float", "int8"):
        ratios = [row[4] for row in rows if row[1] == kind and isinstance(row[4], float)]
        mean = np.exp(np.mean(np.log(ratios)))
        print(f"{kind}: geometric mean {mean:.3f}, largest {max(ratios):.3f}, of {len(ratios)} nets")
    for name, row in said.items():
        if "error" in row:
            print(f"{name}: {row['error']}")


if __name__ == "__main__":
    main(sys.argv[1:])
