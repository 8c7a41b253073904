"""From a checkpoint folder to a checked bundle, and text out of it, as a user does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import exporter
from exporter import bundle as bundles
from exporter import language
from exporter.cli import main
from exporter.errors import DataError, KbitError, LoadError, RecipeError
from exporter.lm.generation import Sampling, open_writer
from exporter.pipeline import run
from exporter.recipe import with_arguments
from targets.agent.sampling import choose
from tests.lm.conftest import Trained

pytestmark = pytest.mark.xdist_group("language model")

WISHES: dict[str, Any] = {
    "context": 256,
    "window": 64,
    "windows": 12,
    "prefill": [16],
    "weights": "int8",
    "max_drop": 1.0,
    "max_divergence": 0.05,
    "min_agreement": 0.8,
}


def _export(trained: Trained, out: Path, **changes: Any) -> bundles.Bundle:
    return exporter.export(
        trained.folder, calibration="train.txt", evaluation="test.txt", base=trained.folder.parent, out=out,
        **WISHES | changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    return _export(trained, tmp_path_factory.mktemp("language") / "bundle")


@pytest.fixture(scope="module")
def check(bundle: bundles.Bundle) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((bundle.path / "check.json").read_text())
    return body


def test_a_bundle_is_made_and_its_gates_hold(bundle: bundles.Bundle, check: dict[str, Any]) -> None:
    assert check["passed"], check["reasons"]
    assert bundles.verify(bundle.path).manifest["language_model"]["context"] == 256
    assert {"tokenizer.json", "genai_config.json", "plan.json"} <= {f["path"] for f in bundle.manifest["files"]}


def test_progress_counts_in_each_long_stage(trained: Trained, tmp_path: Path) -> None:
    told: dict[str, set[tuple[int, int | None]]] = {}

    def tell(stage: str, done: int, total: int | None) -> None:
        told.setdefault(stage, set()).add((done, total))

    recipe = with_arguments(None, {"source": "tiny", "weights": "int4", "rounder": "nearest", "prefill": [16]})
    language.make(recipe, trained.folder, base=trained.folder.parent, out=tmp_path / "bundle", progress=tell)
    assert list(told) == ["load", "compare with torch", "plan", "quantize", "write onnx", "write tflite", "pack"]
    layers = {total for _, total in told["quantize"]}
    assert len(layers) == 1
    assert len(told["quantize"]) == layers.pop()  # every weight
    assert any(total for _, total in told["write tflite"])


def test_figures_are_those_of_torch(bundle: bundles.Bundle, check: dict[str, Any], trained: Trained) -> None:
    figures = check["artifacts"]
    assert figures["float"]["divergence"] == 0
    assert np.log(figures["float"]["perplexity"]) == pytest.approx(trained.after, rel=0.05)  # other windows
    assert 1 < figures["float"]["bits_per_byte"] < 5
    for name in ("onnxruntime", "tflite"):
        assert abs(figures[name]["drop"]) < 1
        assert figures[name]["agreement"] > 0.8
        assert figures[name]["decode_rate"] > 0
        assert figures[name]["first_token_ms"] > 0
        assert figures[name]["peak_bytes"] > figures[name]["bytes"]


def test_bits_per_byte_follow_from_perplexity(bundle: bundles.Bundle, check: dict[str, Any]) -> None:
    with np.load(bundle.path / "evaluation.npz") as arrays:
        windows, sizes = arrays["input.tokens"], arrays["bytes"]
    nats = np.log(check["artifacts"]["float"]["perplexity"]) * windows.shape[0] * (windows.shape[1] - 1)
    assert check["artifacts"]["float"]["bits_per_byte"] == pytest.approx(nats / np.log(2) / sizes.sum())


def test_the_same_recipe_gives_the_same_bytes(bundle: bundles.Bundle, trained: Trained, tmp_path: Path) -> None:
    again = _export(trained, tmp_path / "again")
    assert again.manifest == bundle.manifest


def test_int4_is_small_in_both_runtimes_and_a_gate_that_fails_says_so(trained: Trained, tmp_path: Path) -> None:
    changes = {"weights": "int4", "max_drop": 0.0001, "min_decode_rate": 1e9}
    bundle = _export(trained, tmp_path / "bundle", **changes)
    check = json.loads((bundle.path / "check.json").read_text())
    assert not check["passed"]
    assert any("onnxruntime: max_drop: drop" in reason for reason in check["reasons"])
    assert any("onnxruntime: min_decode_rate: writes" in reason for reason in check["reasons"])
    size = {name: figures["bytes"] for name, figures in check["artifacts"].items()}
    assert size["onnxruntime"] < 0.3 * size["float"]  # a tiny model
    assert size["tflite"] < 0.45 * size["float"]  # nodes twice, in prefill and decode
    assert check["artifacts"]["tflite"]["drop"] < 2
    plan = json.loads((bundle.path / "plan.json").read_text())
    tables = {t["name"]: t["rounder"] for t in plan["tensors"]}
    assert tables["layers.0.mlp.up.weight"] == "gptq"  # there is text to see
    assert tables["embed.weight"] == "gptq"  # looked up, and the head


@pytest.mark.parametrize(
    ("changes", "error", "line"),
    [
        ({"context": 1000}, LoadError, "made for 512 tokens"),
        ({"window": 300}, RecipeError, "window = 300 is longer than"),
        ({"activations": "int16"}, RecipeError, "only weights are planned"),
        ({"passes": ["smooth"]}, RecipeError, "quantize.passes for a language model; leave it out"),
        ({"metric": "cosine"}, RecipeError, "judged by perplexity"),
        ({"evaluation_samples": 9}, RecipeError, "language.windows"),
        ({"evaluation": "none.txt"}, DataError, "cannot read"),
        ({"evaluation": "tiny/model.safetensors"}, DataError, "not text in UTF-8"),
        ({"evaluation": "short.txt"}, DataError, "a window takes 64"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    trained: Trained, tmp_path: Path, changes: dict[str, Any], error: type[KbitError], line: str
) -> None:
    (trained.folder.parent / "short.txt").write_text("To be")
    recipe = with_arguments(None, {"source": "tiny", "evaluation": "test.txt", **WISHES, **changes})
    with pytest.raises(error, match=line):
        run(recipe, base=trained.folder.parent, out=tmp_path / "out" / "bundle")
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


# -- generation


def test_text_is_the_same_in_both_runtimes_in_float(bundle: bundles.Bundle, trained: Trained, tmp_path: Path) -> None:
    made = _export(trained, tmp_path / "bundle", weights="float")
    texts = ["".join(open_writer(made.path, name).write("ROMEO:", 100, Sampling())) for name in ("float", "tflite")]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 20


def test_the_command_writes_text(bundle: bundles.Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(bundle.path), "--prompt", "First Citizen:", "--tokens", "20"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("First Citizen:")
    assert "onnxruntime: 20 tokens, the first after" in err
    words = [
        "generate",
        str(bundle.path),
        "--prompt",
        "a",
        "--tokens",
        "8",
        "--temperature",
        "1",
        "--artifact",
        "tflite",
    ]
    texts = []
    for seed in ("1", "1", "2"):
        assert main([*words, "--seed", seed, "--json"]) == 0
        texts.append(json.loads(capfd.readouterr().out))
    assert texts[0]["text"] == texts[1]["text"] != texts[2]["text"]
    assert (texts[0]["artifact"], texts[0]["prompt_tokens"]) == ("tflite", 1)


@pytest.mark.parametrize(
    ("prompt", "more", "line"),
    [
        ("", [], "the prompt has no tokens"),
        ("a " * 400, [], "the context holds 256"),
        ("a", ["--artifact", "other"], "has no artifact 'other'"),
    ],
)
def test_bad_prompts_are_one_line(
    bundle: bundles.Bundle, prompt: str, more: list[str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(bundle.path), "--prompt", prompt, *more]) == 2
    assert line in capfd.readouterr().err


def test_writing_ends_at_the_end_token_and_at_the_end_of_the_context(bundle: bundles.Bundle) -> None:
    writer = open_writer(bundle.path)
    list(writer.write("a", 10_000, Sampling()))
    assert writer.prompt_tokens + writer.written == 257  # the last one is not fed back
    full = open_writer(bundle.path)
    full._end = {choose(full._decoder.prefill([5])[-1], np.random.default_rng(0), 0)}
    assert not list(full.write(full._tokenizer.decode([5]), 10, Sampling()))


def test_other_bundles_are_told_apart(bundle: bundles.Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other"
    bundles.package(other, name="x", artifacts=[], inputs=[], outputs=[], golden={})
    with pytest.raises(KbitError, match="holds no language model"):
        open_writer(other)


# -- sampling


def test_sampling_keeps_to_its_limits() -> None:
    logits, rng = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32)), np.random.default_rng(0)
    assert choose(logits, rng, 0) == 0
    drawn = [choose(logits, rng) for _ in range(4000)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 4000, np.exp(logits), atol=0.03)
    assert {choose(logits, rng, 1, 2) for _ in range(200)} == {0, 1}
    assert {choose(logits, rng, 1, 0, 0.6) for _ in range(200)} == {0, 1}
    assert {choose(logits, rng, 1, 0, 0.4) for _ in range(50)} == {0}
    assert {choose(logits, rng, 0.05) for _ in range(200)} == {0}
