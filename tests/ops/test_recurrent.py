"""RNN, GRU and LSTM against ONNX Runtime: every attribute, short and looped, and as torch exports them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from exporter.emit.tflite import emit_tflite
from exporter.loading import load
from exporter.preparing import prepare
from exporter.reference import run
from tests.ops.text import agree, counts, run_tflite

STATES = {"RNN": 1, "GRU": 1, "LSTM": 2}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
INPUT, HIDDEN = 3, 4


def layer(
    op: str,
    steps: int,
    *,
    inputs: str = "x, w, r, b",
    attributes: str = "",
    directions: int = 1,
    batch: str = "N",
    layout: int = 0,
    outputs: str = "all",
) -> str:
    """The text of a graph of one layer."""
    size = GATES[op] * HIDDEN
    state = f"{batch},{directions},{HIDDEN}" if layout else f"{directions},{batch},{HIDDEN}"
    shapes = {
        "x": f"float[{batch},{steps},{INPUT}]" if layout else f"float[{steps},{batch},{INPUT}]",
        "w": f"float[{directions},{size},{INPUT}]",
        "r": f"float[{directions},{size},{HIDDEN}]",
        "b": f"float[{directions},{2 * size}]",
        "l": f"int32[{batch}]",
        "h": f"float[{state}]",
        "c": f"float[{state}]",
        "p": f"float[{directions},{3 * HIDDEN}]",
    }
    whole = f"{batch},{steps},{directions},{HIDDEN}" if layout else f"{steps},{directions},{batch},{HIDDEN}"
    made = [f"float[{whole}] y", *[f"float[{state}] s{i}" for i in range(STATES[op])]]
    names = ["y", *[f"s{i}" for i in range(STATES[op])]]
    if outputs != "all":
        made, names = ([made[0]], ["y"]) if outputs == "y" else (made[1:], ["", *names[1:]])
    given = [name.strip() for name in inputs.split(",")]
    attributes = ", ".join(a for a in (f"hidden_size = {HIDDEN}", attributes, f"layout = {layout}") if a)
    declared = ", ".join(f"{shapes[name]} {name}" for name in given if name)
    return f"({declared}) => ({', '.join(made)}) {{ {', '.join(names)} = {op}<{attributes}>({inputs}) }}"


ALL = "x, w, r, b, , h"
BOTH = {"directions": 2, "attributes": 'direction = "bidirectional"'}
CASES = {
    "no bias": ("x, w, r", {}),
    "bias": ("x, w, r, b", {}),
    "backwards": ("x, w, r, b", {"attributes": 'direction = "reverse"'}),
    "both ways": ("x, w, r, b", BOTH),
    "initial state": (ALL, {}),
    "both ways, initial state": (ALL, BOTH),
    "lengths": ("x, w, r, b, l", {}),
    "lengths, backwards, initial state": ("x, w, r, b, l, h", {"attributes": 'direction = "reverse"'}),
    "lengths, both ways": ("x, w, r, b, l", BOTH),
    "clip": ("x, w, r, b", {"attributes": "clip = 0.3"}),
    "only outputs": ("x, w, r, b", {"outputs": "y"}),
    "only states": ("x, w, r, b", {"outputs": "states"}),
    "batch of two": ("x, w, r, b", {"batch": "2"}),
}
MAKERS = {
    "l": lambda rng, shape: rng.integers(1, 6, shape),
    **{name: lambda rng, shape: rng.standard_normal(shape) / 2 for name in "wrbp"},
}


@pytest.mark.parametrize("steps", [5, 69], ids=["short", "looped"])
@pytest.mark.parametrize("op", STATES)
@pytest.mark.parametrize("name", CASES)
def test_layer(name: str, op: str, steps: int) -> None:
    inputs, how = CASES[name]
    if "h" in inputs and op == "LSTM":
        inputs += ", c"
    data = agree(layer(op, steps, inputs=inputs, **how), constants="wrbp", makers=MAKERS)  # type: ignore[arg-type]
    found = counts(data)
    assert found.get("WHILE", 0) == (how.get("directions", 1) if steps > 64 else 0)
    # directions lie beside the features, where the next layer wants them, and ONNX has them before the batch
    assert found.get("TRANSPOSE", 0) <= how.get("directions", 1) - 1


@pytest.mark.parametrize(("steps", "hidden", "loops"), [(20, 64, 0), (8, 256, 0), (40, 48, 1), (9, 256, 1)])
def test_large_copies_are_not_written_out(steps: int, hidden: int, loops: int) -> None:
    net = nn.LSTM(4, hidden, batch_first=True).eval()
    model = prepare(load(net, example_inputs={"x": np.zeros((1, steps, 4), np.float32)}))
    assert counts(emit_tflite(model)).get("WHILE", 0) == loops


@pytest.mark.parametrize("steps", [1, 2, 64, 65, 66, 73, 80])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_any_number_of_steps(steps: int, direction: str) -> None:
    agree(layer("LSTM", steps, attributes=f'direction = "{direction}"'), constants="wrb", makers=MAKERS)


SPECIAL = {
    "peepholes": ("LSTM", "x, w, r, b, , h, c, p", ""),
    "peepholes, no state": ("LSTM", "x, w, r, , , , , p", ""),
    "coupled gates": ("LSTM", "x, w, r, b", "input_forget = 1"),
    "reset after": ("GRU", "x, w, r, b, , h", "linear_before_reset = 1"),
    "reset after, no state": ("GRU", "x, w, r, b", "linear_before_reset = 1"),
    "Relu": ("RNN", "x, w, r, b", 'activations = ["Relu"]'),
    "mixed": ("LSTM", "x, w, r, b", 'activations = ["HardSigmoid", "Softsign", "Elu"]'),
    "with numbers": (
        "LSTM",
        "x, w, r, b",
        'activations = ["HardSigmoid", "ScaledTanh", "LeakyRelu"], '
        "activation_alpha = [0.25, 1.5, 0.1], activation_beta = [0.4, 0.6]",
    ),
    "more": (
        "GRU",
        "x, w, r, b",
        'activations = ["Sigmoid", "Affine"], activation_alpha = [0.5], activation_beta = [0.1]',
    ),
    "threshold": ("RNN", "x, w, r, b", 'activations = ["ThresholdedRelu"], activation_alpha = [0.2]'),
    "Softplus": ("RNN", "x, w, r, b", 'activations = ["Softplus"]'),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("steps", [3, 67], ids=["short", "looped"])
def test_special(name: str, steps: int) -> None:
    op, inputs, attributes = SPECIAL[name]
    agree(layer(op, steps, inputs=inputs, attributes=attributes), constants="wrbp", makers=MAKERS)


class Wrapped(nn.Module):
    """A recurrent layer, and what follows it in a keyword net."""

    def __init__(self, kind: type[nn.RNNBase], **how: object) -> None:
        super().__init__()
        self.layer = kind(6, 8, batch_first=True, **how)  # type: ignore[arg-type]
        self.head = nn.Linear(8 * (2 if how.get("bidirectional") else 1), 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0])


@pytest.mark.parametrize(
    "how", [{}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str
)
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_torch_layers(kind: type[nn.RNNBase], how: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = Wrapped(kind, **how).eval()
    model = prepare(load(net, example_inputs={"x": np.zeros((2, 20, 6), np.float32)}))
    data = emit_tflite(model)
    for batch in (1, 3):
        feeds = {"x": np.random.default_rng(batch).standard_normal((batch, 20, 6)).astype(np.float32)}
        expected = next(iter(run(model, feeds).values()))
        actual = next(iter(run_tflite(data, feeds).values()))
        assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()
    assert counts(data).get("TRANSPOSE", 0) == (1 if kind is nn.RNN else 0)  # torch writes out the steps of nn.RNN
