"""A small model that has learnt something, made once for all tests of language models."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from benchmarks.measure import ROOT
from exporter.emit.tflite import translate
from exporter.lm.build import static_models
from exporter.lm.last import keep_last
from exporter.lm.source import Decoder, open_decoder
from sample_apps.shakespeare import train as sample
from tests.lm.checkpoints import quiet

TINY = sample.Size(hidden=64, layers=2, heads=2, kv_heads=1, inner=96, learning_rate=1e-2)


@dataclass(frozen=True)
class Trained:
    """A checkpoint folder, its test text, and the losses (nats a token) before and after training."""

    folder: Path
    text: str
    before: float
    after: float


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    path = Path(os.environ.get("KBIT_DATA", ROOT.parent / "shared" / "data")) / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip(f"real data: {path} is missing; set KBIT_DATA")
    known, unseen = sample.split(path.read_text("utf-8"))
    known, unseen = known[:400_000], unseen[:40_000]
    tokenizer = sample.train_tokenizer(known, 320)
    tokens, held_out = (torch.tensor(tokenizer.encode(text).ids) for text in (known, unseen))
    torch.manual_seed(0)
    before = sample.loss_on(sample.build(TINY, 320), held_out, windows=8)
    model = sample.train(TINY, tokens, 320, steps=120)
    folder = tmp_path_factory.mktemp("trained") / "tiny"
    with quiet():
        sample.save(model, tokenizer, folder)
    (folder.parent / "test.txt").write_text(unseen, "utf-8")
    (folder.parent / "train.txt").write_text(known, "utf-8")
    return Trained(folder, unseen, before, sample.loss_on(model, held_out, windows=8))


@dataclass(frozen=True)
class Files:
    """The trained model in both runtimes, in float; ``language`` as a manifest has it."""

    decoder: Decoder
    onnx: Path
    tflite: Path
    language: dict[str, object]
    prompt: np.ndarray


@pytest.fixture(scope="session")
def files(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Files:
    decoder = open_decoder(trained.folder, context=256)
    folder = tmp_path_factory.mktemp("files")
    ir.save(keep_last(decoder.dynamic()), folder / "model.onnx")
    models = static_models(decoder, [16])
    (folder / "model.tflite").write_bytes(bytes(translate(models)))
    plan = decoder.plan
    language = {
        "context": plan.context,
        "kv_heads": plan.kv_heads,
        "head_size": plan.heads.padded,
        "vocabulary": plan.vocabulary,
    }
    prompt = np.random.default_rng(0).integers(1, plan.vocabulary, 24)
    return Files(decoder, folder / "model.onnx", folder / "model.tflite", language, prompt)
