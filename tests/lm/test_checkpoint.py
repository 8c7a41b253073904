"""Checkpoint folders that are damaged, incomplete, hostile or of a kind we do not know: one clear line each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from exporter.errors import LoadError
from exporter.lm.checkpoint import is_checkpoint, open_checkpoint
from exporter.lm.source import open_decoder
from tests.lm.checkpoints import CONFIGS, write


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(CONFIGS["llama"], tmp_path_factory.mktemp("sound"))


def _edit_config(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def _cut(name: str, keep: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep]) and None


def _index_outside(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret.safetensors"}}')


def _index_incomplete(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-2.safetensors"}}')


def _only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "config cut off": (_cut("config.json", 20), "config.json is not JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "holds a list"),
    "no model_type": (lambda f: (f / "config.json").write_text("{}"), "names no model_type"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "a pickle": (_only_pickle, "it has pytorch_model.bin"),
    "weights cut off": (_cut("model.safetensors", 90_000), "lies beyond its end"),
    "weights empty": (_cut("model.safetensors", 3), "not a safetensors file"),
    "weights no header": (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), "not a safetensors file"),
    "index outside": (_index_outside, "points outside its folder"),
    "index incomplete": (_index_incomplete, "lacks model-2.safetensors"),
    "unknown family": (_edit_config(model_type="bert"), "no row in"),
    "made-up family": (_edit_config(model_type="nonsuch"), "does not take its config.json"),
    "other sizes": (_edit_config(intermediate_size=64), "config.json says"),
    "other vocabulary": (_edit_config(vocab_size=95), "config.json says"),
    "more layers": (_edit_config(num_hidden_layers=3), "has no tensor 'model.layers.2"),
    "unknown activation": (_edit_config(hidden_act="mish"), "activation 'mish' is not known"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_one_clear_line(fault: str, sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(sound, folder)
    spoil, line = FAULTS[fault]
    spoil(folder)
    with pytest.raises(LoadError, match=line) as caught:
        open_decoder(folder).dynamic()
    assert "\n" not in str(caught.value)


def test_shards_and_half_precision_are_the_same_model(sound: Path, tmp_path: Path) -> None:
    whole = open_checkpoint(sound)
    parts = open_checkpoint(write(CONFIGS["llama"], tmp_path / "parts", max_shard_size="100KB"))
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    assert parts.parameters == whole.parameters
    assert all(np.array_equal(whole.weights.array(name), parts.weights.array(name)) for name in whole.weights)
    from safetensors.torch import load_file, save_file

    halves = {k: v.to(torch.bfloat16) for k, v in load_file(sound / "model.safetensors").items()}
    shutil.copytree(sound, tmp_path / "half")
    save_file(halves, tmp_path / "half" / "model.safetensors")
    half = open_checkpoint(tmp_path / "half")
    assert all(np.array_equal(half.weights.array(name), halves[name].float().numpy()) for name in halves)
    assert is_checkpoint(sound)
    assert not is_checkpoint(tmp_path)
