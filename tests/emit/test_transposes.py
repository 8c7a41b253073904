"""How many TRANSPOSE attention costs, and that chains of reshapes and transposes stay right however they are merged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from exporter.emit.tflite import emit_tflite
from exporter.loading import from_proto, load
from exporter.preparing import prepare
from exporter.reference import run
from tests.nets import conformer, decoder, mobilevit, transformer, vit
from tests.ops.text import counts, run_onnx, run_tflite


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def encoder_layers(*, batch_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=batch_first, activation="gelu")
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


@dataclass(frozen=True)
class Case:
    """A net, the shape of one sample, the TRANSPOSE of its file, and those that litert-torch 0.10 leaves."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    transposes: int
    litert: int
    tokens: bool = False
    batch: int = 0  # axis of the batch; time-major nets are fixed at two


CASES = {
    "BERT": Case(lambda: transformer.encoder(layers=2, width=64, heads=4), (16,), 8, 8, tokens=True),
    "ViT": Case(lambda: vit.vit(layers=2), (3, 32, 32), 5, 9),
    "MobileViT": Case(mobilevit.mobilevit, (3, 32, 32), 9, 14),
    "Conformer": Case(conformer.conformer, (40, 20), 4, 14),
    "decoder, grouped queries": Case(decoder.decoder, (16,), 8, 10, tokens=True),
    "decoder": Case(lambda: decoder.decoder(key_heads=4), (16,), 8, 10, tokens=True),
    "nn.MultiheadAttention": Case(SelfAttention, (16, 64), 4, 6),
    "nn.TransformerEncoder": Case(lambda: encoder_layers(batch_first=True), (16, 64), 8, 12),
    "nn.TransformerEncoder, time first": Case(lambda: encoder_layers(batch_first=False), (16, 2, 64), 10, 12, batch=1),
}


@pytest.mark.parametrize("name", CASES)
def test_attention_is_lean(name: str) -> None:
    case = CASES[name]
    assert case.transposes <= case.litert
    torch.manual_seed(0)
    net = case.build().eval()
    rng = np.random.default_rng(0)
    shape = case.shape if case.batch else (2, *case.shape)
    x = rng.integers(0, 256, shape) if case.tokens else rng.standard_normal(shape).astype(np.float32)
    feeds = {next(iter(inspect.signature(net.forward).parameters)): x}
    model = prepare(load(net, example_inputs=feeds))
    data = emit_tflite(model)
    found, expected = (next(iter(outputs.values())) for outputs in (run_tflite(data, feeds), run(model, feeds)))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert counts(data).get("TRANSPOSE", 0) == case.transposes


Moves = list[tuple[str, list[int]]]


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[int], Moves]:
    """A shape, and moves: orders for Transpose, shapes for Reshape. Factors are small, so that sizes coincide."""
    factors = draw(st.lists(st.sampled_from([1, 2, 2, 3, 4]), min_size=2, max_size=5))
    shape = _grouped(draw, factors)
    first, moves = list(shape), []
    for _ in range(draw(st.integers(2, 6))):
        if draw(st.booleans()):
            order = draw(st.permutations(range(len(shape))))
            shape = [shape[a] for a in order]
            moves.append(("Transpose", list(order)))
        else:
            shape = _grouped(draw, [f for size in shape for f in _factors(size)])
            moves.append(("Reshape", list(shape)))
    return first, moves


def _factors(size: int) -> Sequence[int]:
    return {1: [1], 4: [2, 2], 8: [2, 2, 2], 6: [2, 3], 12: [3, 2, 2], 16: [4, 4]}.get(size, [size])


def _grouped(draw: st.DrawFn, factors: Sequence[int]) -> list[int]:
    """Neighbouring factors multiplied here and there, at most five sizes."""
    shape = [1]
    for factor in factors:
        if draw(st.booleans()) and len(shape) < 5:
            shape.append(factor)
        else:
            shape[-1] *= factor
    return shape


def chain_model(shape: Sequence[int], moves: Moves) -> onnx.ModelProto:
    helper, nodes, constants, source = onnx.helper, [], [], "x"
    for number, (kind, numbers) in enumerate(moves):
        name = f"v{number}"
        if kind == "Transpose":
            nodes.append(helper.make_node(kind, [source], [name], perm=numbers))
        else:
            constants.append(onnx.numpy_helper.from_array(np.asarray(numbers), f"s{number}"))
            nodes.append(helper.make_node(kind, [source, f"s{number}"], [name]))
        source = name
    nodes.append(helper.make_node("Abs", [source], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(chains())
def test_chains_of_reshapes_and_transposes(chain: tuple[list[int], Moves]) -> None:
    shape, moves = chain
    model = chain_model(shape, moves)
    feeds = {"x": np.arange(1, int(np.prod(shape)) + 1, dtype=np.float32).reshape(shape)}
    data = emit_tflite(from_proto(model))
    np.testing.assert_array_equal(run_tflite(data, feeds)["y"], run_onnx(model, feeds)["y"])
    most = sum(kind == "Transpose" for kind, _ in moves) + 1
    assert counts(data).get("TRANSPOSE", 0) <= most
