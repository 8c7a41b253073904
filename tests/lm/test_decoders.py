"""The decoders that travel to the device, against torch on a trained model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from exporter import reference
from exporter.lm.parity import dynamic_feeds
from targets.agent.decoders import ContextFull, open_decoder
from tests.lm.checkpoints import quiet
from tests.lm.conftest import Files, Trained

pytestmark = pytest.mark.xdist_group("language model")  # they share one training


@pytest.fixture(scope="module", params=["onnxruntime", "tflite"])
def decoder(request: pytest.FixtureRequest, files: Files) -> Any:
    path = files.onnx if request.param == "onnxruntime" else files.tflite
    return open_decoder({"runtime": request.param}, files.language, path, 1)


def test_the_sample_trains_and_its_checkpoint_opens(trained: Trained) -> None:
    assert trained.after < trained.before - 1.5
    assert (trained.folder / "tokenizer.json").is_file()


def _greedy(decoder: Any, prompt: np.ndarray, count: int) -> list[int]:
    decoder.reset()
    logits = decoder.read(prompt)
    found: list[int] = []
    for _ in range(count):
        found.append(int(logits.argmax()))
        logits = decoder.step(found[-1])
    return found


def test_greedy_text_is_that_of_torch(decoder: Any, files: Files, trained: Trained) -> None:
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(trained.folder).eval()
        settings = {"max_new_tokens": 200, "min_new_tokens": 200, "do_sample": False, "pad_token_id": 0}
        made = model.generate(torch.from_numpy(files.prompt)[None], **settings)
    assert _greedy(decoder, files.prompt, 200) == made[0, len(files.prompt) :].tolist()


@pytest.mark.parametrize("pieces", [(24,), (1, 23), (16, 8), (7, 7, 7, 3), (1,) * 24])
def test_a_prompt_in_pieces_is_the_whole_prompt(decoder: Any, files: Files, pieces: tuple[int, ...]) -> None:
    expected = files.decoder.reference.logits(files.prompt[None])[0]
    decoder.reset()
    start = 0
    for count in pieces:
        found = decoder.prefill(files.prompt[start : start + count])
        assert found.shape == (count, files.decoder.plan.vocabulary)
        np.testing.assert_allclose(found, expected[start : start + count], atol=1e-3)
        start += count
    assert decoder.length == len(files.prompt)


def test_the_head_is_computed_where_it_is_asked_for(decoder: Any, files: Files) -> None:
    expected = files.decoder.reference.logits(files.prompt[None])[0]
    decoder.reset()
    for start, end in ((0, 1), (1, 17), (17, 24)):
        np.testing.assert_allclose(decoder.read(files.prompt[start:end]), expected[end - 1], atol=1e-3)
    assert decoder.length == len(files.prompt)


def test_logits_to_keep_need_not_be_fed(files: Files) -> None:
    opened = reference.open_file(files.onnx)
    assert {i.name for i in opened.get_inputs()} == set(dynamic_feeds(files.decoder.plan, files.prompt[None]))
    whole = opened.run(["logits"], dynamic_feeds(files.decoder.plan, files.prompt[None]))[0]
    for count in (0, 1, 5, 24):
        feeds = dynamic_feeds(files.decoder.plan, files.prompt[None]) | {"logits_to_keep": np.array([count])}
        kept = opened.run(["logits"], feeds)[0]
        np.testing.assert_allclose(kept, whole[:, -count:], atol=1e-5)


def test_what_does_not_fit_is_refused_in_one_line(decoder: Any, files: Files) -> None:
    decoder.reset()
    with pytest.raises(ContextFull, match="300 tokens do not fit: the context holds 256; shorten the prompt"):
        decoder.prefill(np.zeros(300, np.int64))
    decoder.prefill(np.zeros(256, np.int64))
    with pytest.raises(ContextFull, match="1 tokens after the 256 in the cache"):
        decoder.step(1)


def test_a_cache_that_was_full_is_empty_after_reset(decoder: Any, files: Files) -> None:
    decoder.reset()
    first = decoder.prefill(files.prompt).copy()
    decoder.prefill(np.zeros(200, np.int64))
    decoder.reset()
    np.testing.assert_array_equal(decoder.prefill(files.prompt), first)
