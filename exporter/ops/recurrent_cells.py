"""One step of an RNN, GRU or LSTM, and the activation functions that ONNX lets them have.

A cell works on tensors of rank 3: features last, and time, of size 1, before or after the batch. What depends on the
input alone is computed for all steps at once (``Cell.inputs``); a step adds what depends on the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from exporter.ops.lowering import Array, Tensor
from exporter.ops.recurrent_weights import Matrix, linear
from exporter.ops.steps import Steps

__all__ = ["Activation", "Cell", "Gru", "Lstm", "Rnn", "State", "split"]

State = tuple[Tensor | None, ...]  # hidden state, and the LSTM's cell state; None: zero


def split(steps: Steps, x: Tensor, count: int, axis: int = -1) -> list[Tensor]:
    """SPLIT into equal parts."""
    ctx, place = steps.ctx, axis % len(x.shape)
    if count == 1:
        return [x]
    shape = [s // count if i == place else s for i, s in enumerate(x.shape)]
    parts = [
        Tensor(ctx.program.name(f"{ctx.result.name}/part"), tuple(shape), x.dtype, x.dynamic) for _ in range(count)
    ]
    ctx.emit("SPLIT", [ctx.ints(place), x], parts, "SplitOptions", numSplits=count)
    return parts


@dataclass(frozen=True, slots=True)
class Activation:
    """A function by its ONNX name, behind a clip of its input to [-clip, clip]."""

    name: str
    alpha: float | None = None
    beta: float | None = None
    clip: float | None = None

    def __call__(self, steps: Steps, x: Tensor) -> Tensor:
        if self.clip is not None:
            x = steps.maximum(steps.minimum(x, self.clip), -self.clip)
        name = self.name.lower()
        if name in _BUILTINS:
            return steps.unary(_BUILTINS[name], x)
        a, b = _default(self.alpha, name, 0), _default(self.beta, name, 1)
        match name:
            case "leakyrelu":
                return steps.unary("LEAKY_RELU", x, alpha=a)
            case "affine":
                return steps.add(steps.mul(x, a), b)
            case "scaledtanh":
                return steps.mul(steps.unary("TANH", steps.mul(x, b)), a)
            case "hardsigmoid":
                return steps.unary("RELU_0_TO_1", steps.add(steps.mul(x, a), b))
            case "softsign":
                return steps.div(x, steps.add(steps.unary("ABS", x), 1.0))
            case "thresholdedrelu":
                return steps.mul(x, steps.cast(steps.binary("GREATER", x, a), np.float32))
            case "elu":
                below = steps.mul(steps.sub(steps.unary("EXP", steps.minimum(x, 0.0)), 1.0), a)
                return steps.add(steps.unary("RELU", x), below)
            case _:  # softplus, without overflow
                tail = steps.unary("EXP", steps.unary("NEG", steps.unary("ABS", x)))
                return steps.add(steps.unary("RELU", x), steps.unary("LOG", steps.add(tail, 1.0)))


_BUILTINS = {"sigmoid": "LOGISTIC", "tanh": "TANH", "relu": "RELU"}
# alpha and beta of the ONNX operators; None: the function has no such parameter
PARAMETERS: dict[str, tuple[float | None, float | None]] = {
    "sigmoid": (None, None), "tanh": (None, None), "relu": (None, None), "softsign": (None, None),
    "softplus": (None, None), "leakyrelu": (0.01, None), "thresholdedrelu": (1.0, None), "elu": (1.0, None),
    "affine": (1.0, 0.0), "scaledtanh": (1.0, 1.0), "hardsigmoid": (0.2, 0.5),
}  # fmt: skip


def _default(given: float | None, name: str, place: int) -> float:
    return given if given is not None else PARAMETERS[name][place] or 0.0


@dataclass(frozen=True, slots=True)
class Cell:
    """weight [gates x hidden, in], recurrent [gates x hidden, hidden], bias [2 x gates x hidden] or None."""

    weight: Matrix
    recurrent: Matrix
    bias: Array | None
    activations: tuple[Activation, ...]

    @property
    def hidden(self) -> int:
        return self.recurrent.columns

    def biases(self) -> tuple[Array, Array]:
        """Of the input's and of the state's part."""
        size = self.weight.rows
        both = np.zeros(2 * size, np.float32) if self.bias is None else self.bias
        return both[:size], both[size:]

    def inputs(self, steps: Steps, x: Tensor) -> list[Tensor]:
        """x [.., in] for all steps -> what a step takes of it."""
        first, second = self.biases()
        return [linear(steps, x, self.weight, first + second)]

    def step(self, steps: Steps, parts: Sequence[Tensor], state: State) -> tuple[Tensor, ...]:
        """The next state."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Rnn(Cell):
    """h = f(W x + R h + b)."""

    def step(self, steps: Steps, parts: Sequence[Tensor], state: State) -> tuple[Tensor, ...]:
        total = parts[0] if state[0] is None else steps.add(linear(steps, state[0], self.recurrent), parts[0])
        return (self.activations[0](steps, total),)


@dataclass(frozen=True, slots=True)
class Gru(Cell):
    """Cho et al. 2014; gates z, r and the candidate. ``reset_after``: r scales R h + b instead of h."""

    reset_after: bool = False

    def inputs(self, steps: Steps, x: Tensor) -> list[Tensor]:
        cut = 2 * self.hidden
        first, second = self.biases()
        candidate = first[cut:] if self.reset_after else first[cut:] + second[cut:]
        upper, lower = self.weight.cut(cut)
        return [linear(steps, x, upper, first[:cut] + second[:cut]), linear(steps, x, lower, candidate)]

    def step(self, steps: Steps, parts: Sequence[Tensor], state: State) -> tuple[Tensor, ...]:
        cut, h = 2 * self.hidden, state[0]
        outer, inner = self.activations
        upper, lower = self.recurrent.cut(cut)
        late = self.biases()[1][cut:] if self.reset_after else None
        total = parts[0] if h is None else steps.add(linear(steps, h, upper), parts[0])
        update, reset = split(steps, outer(steps, total), 2)
        seen: Tensor | None
        if not self.reset_after:
            seen = None if h is None else linear(steps, steps.mul(reset, h), lower)
        elif h is None:
            seen = None if late is None or not late.any() else steps.mul(reset, late)
        else:
            seen = steps.mul(reset, linear(steps, h, lower, late))
        candidate = inner(steps, parts[1] if seen is None else steps.add(seen, parts[1]))
        kept = steps.mul(update, candidate if h is None else steps.sub(h, candidate))
        return (steps.sub(candidate, kept) if h is None else steps.add(candidate, kept),)


@dataclass(frozen=True, slots=True)
class Lstm(Cell):
    """Hochreiter and Schmidhuber 1997; gates i, o, f and the candidate, peepholes [3 x hidden] onto i, o, f.

    ``coupled``: f = 1 - i.
    """

    peepholes: Array | None = None
    coupled: bool = False

    def step(self, steps: Steps, parts: Sequence[Tensor], state: State) -> tuple[Tensor, ...]:
        h, c = state
        outer, inner, shown = self.activations
        total = parts[0] if h is None else steps.add(linear(steps, h, self.recurrent), parts[0])
        i, o, f, raw = split(steps, total, 4)  # XNNPACK takes SPLIT into at most four, and no SPLIT_V
        write = outer(steps, self._peeped(steps, i, c, 0))
        new = steps.mul(write, inner(steps, raw))
        cell = new
        if c is not None and self.coupled:
            cell = steps.add(steps.mul(steps.sub(np.ones((1, 1, 1), np.float32), write), c), new)
        elif c is not None:
            cell = steps.add(steps.mul(outer(steps, self._peeped(steps, f, c, 2)), c), new)
        show = outer(steps, self._peeped(steps, o, cell, 1))
        # ONNX Runtime clips what gates and candidate read, but not the cell on its way out
        return steps.mul(show, replace(shown, clip=None)(steps, cell)), cell

    def _peeped(self, steps: Steps, gate: Tensor, cell: Tensor | None, place: int) -> Tensor:
        """What a gate reads, with the cell seen through its peephole."""
        if self.peepholes is None or cell is None:
            return gate
        return steps.add(gate, steps.mul(cell, self.peepholes.reshape(3, -1)[place]))
