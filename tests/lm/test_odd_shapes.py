"""Odd shapes in few bits: both files against the float graph with the weights that the integers stand for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.errors import UnsupportedError
from exporter.lm import build, parity
from exporter.lm.source import Decoder, open_decoder
from exporter.recipe import Quantize
from exporter.reference import with_rounded_weights
from exporter.types import Rounded
from targets.agent.decoders import ContextFull
from targets.agent.decoders import open_decoder as open_file
from tests.lm.checkpoints import CONFIGS, write

CONTEXT = 48
ODD = (
    "llama",  # untied, grouped
    "llama_tied",
    "llama_biases_no_groups",
    "llama_vocabulary_is_hidden",
    "llama_heads_of_10",  # 60 inputs are no multiple of a group
    "qwen3_heads_of_20",
    "gpt2_heads_of_15",
)
WIDTHS = {
    "int8": Quantize(weights="int8", activations="dynamic"),
    "int4": Quantize(weights="int4", activations="dynamic", granularity=32),
    "int3": Quantize(weights="int3", activations="float", granularity=16),
}


@dataclass(frozen=True)
class Case:
    """What the integers stand for, in float; the float file is ``decoder.dynamic()`` with these weights."""

    decoder: Decoder
    rounded: Rounded
    expected: np.ndarray
    tokens: np.ndarray
    dynamic: bool


@pytest.fixture(scope="module", params=[(name, width) for name in ODD for width in WIDTHS], ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name, width = request.param
    decoder = open_decoder(write(CONFIGS[name], tmp_path_factory.mktemp(name)), CONTEXT)
    model = decoder.dynamic()
    rounded = build.round_decoder(decoder, model, WIDTHS[width], None)
    tokens = np.random.default_rng(0).integers(0, decoder.plan.vocabulary, 20)
    run = parity.runner(with_rounded_weights(model, rounded))
    expected = run(parity.dynamic_feeds(decoder.plan, tokens[None]))["logits"][0]
    return Case(decoder, rounded, expected, tokens, WIDTHS[width].activations == "dynamic")


def test_a_rounder_that_cannot_learn_here_says_so(tmp_path: Path) -> None:
    """Never another one in its place, without a word."""
    decoder = open_decoder(write(CONFIGS["llama"], tmp_path), CONTEXT)
    tokens = np.random.default_rng(0).integers(0, decoder.plan.vocabulary, (4, 16)).astype(np.int32)
    wishes = Quantize(weights="int4", activations="dynamic", granularity=32, rounder="brecq")
    with pytest.raises(UnsupportedError, match='no gradient, in no block; use rounder = "gptq"'):
        build.round_decoder(decoder, decoder.dynamic(), wishes, tokens)


@pytest.mark.parametrize("runtime", ["onnxruntime", "tflite"])
def test_few_bits_are_right_whatever_the_shape(case: Case, runtime: str, tmp_path: Path) -> None:
    opened = _open(case, runtime, tmp_path)
    parts = [opened.prefill(case.tokens[:1]), opened.prefill(case.tokens[1:12])]  # a prompt of one token first
    parts += [opened.step(token)[None].copy() for token in case.tokens[12:]]
    found, scale = np.concatenate(parts), np.abs(case.expected).max()
    error = np.abs(found - case.expected)
    if not case.dynamic:
        assert error.max() < 1e-4 * scale
    else:  # inputs become int8 on the way
        assert error.mean() < 0.01 * scale
        assert error.max() < 0.05 * scale
    with pytest.raises(ContextFull, match="the context holds 48"):
        opened.prefill(np.zeros(CONTEXT, np.int64))
    assert opened.length == 20  # nothing was written
    opened.reset()
    last = opened.read(case.tokens[:12]).copy()  # the head at one position
    opened.reset()
    limit = 0.05 if case.dynamic else 1e-5  # the head's input becomes int8 by the range of one row, or of all
    np.testing.assert_allclose(last, opened.prefill(case.tokens[:12])[-1], atol=limit * scale)


def _open(case: Case, runtime: str, folder: Path) -> Any:
    plan = case.decoder.plan
    language = {
        "context": plan.context,
        "kv_heads": plan.kv_heads,
        "head_size": plan.heads.padded,
        "vocabulary": plan.vocabulary,
    }
    if runtime == "onnxruntime":
        build.write_onnx(build.emit(case.decoder.dynamic(), case.rounded), folder / "model")
    else:
        with (folder / "model").open("wb") as file:
            build.tflite_content(build.static_models(case.decoder, [16]), case.rounded).write(file)
    return open_file({"runtime": runtime}, language, folder / "model", 1)
