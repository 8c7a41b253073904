"""Boards in emulation, and how far kbit bench can be trusted.

python -m benchmarks.device counts BUNDLE…   instructions of one inference on both boards, and against float
python -m benchmarks.device coverage         how often the interval of the median holds the truth, synthetic runs
python -m benchmarks.device loop BUNDLE      kbit bench against a plain timing loop on the same file
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import machine, table
from targets import check
from targets.agent import estimating, runtimes, worker
from targets.bench import Wish, bench
from targets.transports.emulation import BOARDS

_KINDS = {  # drift over a launch, step of a random walk, share of spikes of 3x, level of a launch
    "steady": (0.0, 0.0, 0.0, 0.0),
    "drift, spikes": (0.03, 0.0, 0.02, 0.0),
    "wander, spikes": (0.0, 0.002, 0.02, 0.0),
    "all, and launches differ": (0.03, 0.002, 0.02, 0.005),
}


def counts(bundles: list[str]) -> str:
    """Of each bundle and emulated board, by artifact: instructions of one sample, in millions and over float."""
    rows = []
    for bundle in bundles:
        for board in BOARDS:
            artifacts = check(bundle, f"emulated:{board}", samples=8)["artifacts"]
            whole = artifacts["float"]["instructions"]["all"]
            for name, facts in artifacts.items():
                found = facts["instructions"]
                products = found["dot_product"] or found["widening_multiply"] or found["float_multiply_add"]
                rows.append([Path(bundle).name, board, name, f"{found['all'] / 1e6:.2f} M", f"{products / 1e6:.2f} M",
                             f"{found['all'] / whole:.2f}"])  # fmt: skip
    return table(["model", "board", "artifact", "instructions", "of them products", "of float's"], rows)


def launches(rng: np.random.Generator, kind: tuple[float, ...], count: int = 5, rounds: int = 400) -> list[np.ndarray]:
    """Synthetic times around 10 ms, as in tests/targets/test_estimating.py."""
    drift, wander, spikes, level = kind
    found = []
    for _ in range(count):
        walk = np.zeros(rounds)
        for i, step in enumerate(rng.normal(0, wander, rounds - 1), 1):
            walk[i] = 0.99 * walk[i - 1] + step
        times = 10 * rng.lognormal(0, 0.01, rounds) * (1 + walk) * (1 + drift * np.linspace(0, 1, rounds))
        found.append(times * np.where(rng.random(rounds) < spikes, 3.0, 1.0) * np.exp(rng.normal(0, level)))
    return found


def coverage() -> str:
    """How often the interval of kbit bench holds the truth in 100 synthetic runs, and its median half width in %."""
    rows = []
    for name, kind in _KINDS.items():
        truth = np.median(np.concatenate([launches(np.random.default_rng(10_000 + i), kind) for i in range(200)]))
        held, widths = 0, []
        for run in range(100):
            found = estimating.interval(launches(np.random.default_rng(run), kind), run)
            held += found["low"] <= truth <= found["high"]
            widths.append(50 * (found["high"] - found["low"]) / truth)
        rows.append([name, f"{held} of 100", f"{np.median(widths):.2f} %"])
    return table(["synthetic runs", "interval holds the truth", "half width"], rows)


def plain(bundle: Path, runs: int = 3000) -> dict[str, float]:
    """Median ms of each artifact in the shortest loop that can be written, in a process of its own."""
    manifest = worker.read(bundle)
    golden = worker.sample_arrays(bundle, manifest["golden"])
    found = {}
    for artifact in manifest["artifacts"]:
        module, _, _ = runtimes.load_runtime(artifact["runtime"])
        session = runtimes.open_artifact(module, artifact, bundle / artifact["path"], 1)
        arrays = session.prepare(worker.feeds_of(manifest, golden, 0, 1))
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            session.invoke(arrays)
            times.append(time.perf_counter() - start)
        found[artifact["name"]] = float(np.median(times)) * 1e3
    return found


def loop(bundle: Path) -> str:
    """Plain loops in five fresh processes before, between and after two runs of kbit bench."""

    def loops() -> list[dict[str, float]]:
        with concurrent.futures.ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), max_tasks_per_child=1
        ) as pool:
            return list(pool.map(plain, [bundle] * 5))

    around, found = [loops()], []
    for _ in range(2):
        found.append(bench(bundle, "host", Wish((1,), seconds=30.0)))
        around.append(loops())
    rows = []
    for name in around[0][0]:
        runs = [each["settings"][0]["artifacts"][name] for each in found]
        cells = []
        for run, before, after in zip(runs, around, around[1:], strict=False):
            # The machine's own pace wanders by a few per cent in minutes, so each run has its own loops.
            middle = float(np.median([each[name] for each in before + after]))
            cells += [f"{middle:.4f}", f"{run['p50']:.4f} ({run['low']:.4f} to {run['high']:.4f})"]
            cells.append(f"{100 * (run['p50'] / middle - 1):+.1f} %")
        first, second = runs
        overlap = first["low"] <= second["high"] and second["low"] <= first["high"]
        rows.append([name, *cells, "yes" if overlap else "no"])
    each_run = ["plain loop, ms", "kbit bench, ms (95 % interval)", "off"]
    head = ["artifact", *each_run, *each_run, "intervals overlap"]
    doubts = "; ".join(dict.fromkeys(reason for each in found for reason in each["reasons"])) or "none"
    return f"{machine('onnxruntime', 'ai-edge-litert')}\n\n{table(head, rows)}\n\ndoubts: {doubts}"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["counts", *names] if names:
            print(counts(names))
        case ["coverage"]:
            print(coverage())
        case ["loop", name]:
            print(loop(Path(name)))
        case _:
            sys.exit(__doc__)
