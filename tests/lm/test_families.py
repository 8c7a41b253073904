"""Every family, in the graph for each runtime, against torch: whole, in chunks, token by token, in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from exporter.emit.tflite import read_tflite, translate
from exporter.errors import LoadError
from exporter.graph import verify
from exporter.lm.families import FAMILIES
from exporter.lm.parity import Run, compare_dynamic, runner
from exporter.lm.source import Decoder, open_decoder
from tests.lm.checkpoints import CONFIGS, write
from tests.lm.static_calls import relative_difference


def test_every_family_is_tried() -> None:
    assert {config.model_type for config in CONFIGS.values()} == set(FAMILIES)


@pytest.fixture(scope="module", params=CONFIGS)
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    folder = write(CONFIGS[request.param], tmp_path_factory.mktemp(request.param))
    return open_decoder(folder, context=48)


def test_the_graph_for_onnx_runtime_is_torch(decoder: Decoder) -> None:
    model = decoder.dynamic()
    verify(model, "the test")
    assert compare_dynamic(decoder, runner(model)).max_rel < 1e-5


def test_the_tflite_file_is_torch_and_holds_its_weights_once(decoder: Decoder) -> None:
    models = {"decode": decoder.static(1), "prefill_8": decoder.static(8)}
    for model in models.values():
        verify(model, "the test")
    data = bytes(translate(models))
    interpreter = Interpreter(model_content=data)
    runs: dict[int, Run] = {length: _signature(interpreter, key) for length, key in ((1, "decode"), (8, "prefill_8"))}
    assert relative_difference(decoder, runs) < 1e-5
    alone = len(bytes(translate({"decode": models["decode"]})))
    assert len(data) < alone + 0.25 * sum(decoder.checkpoint.weights.bytes_of(n) for n in decoder.checkpoint.weights)
    assert read_tflite(data).tensors


def _signature(interpreter: Interpreter, key: str) -> Run:
    def run(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        return interpreter.get_signature_runner(key)(**feeds)

    return run


def test_a_wrong_graph_is_found_out(tmp_path: Path) -> None:
    decoder = open_decoder(write(CONFIGS["llama"], tmp_path), context=48)
    model = decoder.dynamic()
    scale = next(node for node in model.graph if node.op_type == "GroupQueryAttention")
    del scale.attributes["do_rotary"]
    with pytest.raises(LoadError, match="differs from torch"):
        compare_dynamic(decoder, runner(model))


def test_the_context_is_that_of_the_model(tmp_path: Path) -> None:
    folder = write(CONFIGS["llama"], tmp_path)
    with pytest.raises(LoadError, match="made for 64 tokens"):
        open_decoder(folder, context=65)
    assert open_decoder(folder).plan.context == 64
    assert np.allclose(next(iter(open_decoder(folder, 32).plan.rotary.values()))[0][0], 1)
