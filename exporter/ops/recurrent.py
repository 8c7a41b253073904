"""RNN, GRU and LSTM, in one direction or both, over sequences of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from exporter.ops.lowering import NEW, Array, Layout, Lowering, Tensor, View, identity
from exporter.ops.op import Float, InputRole, Op
from exporter.ops.recurrent_cells import PARAMETERS, Activation, Cell, Gru, Lstm, Rnn, State, split
from exporter.ops.recurrent_loop import Course, run
from exporter.ops.recurrent_weights import Matrix, matrices
from exporter.ops.steps import Steps

__all__ = ["ROWS"]


def rnn(ctx: Lowering) -> None:
    """h = f(W x + R h + b)."""
    _layer(ctx, ("Tanh",), 1, lambda weights, acts: Rnn(*weights, acts))


def gru(ctx: Lowering) -> None:
    """Gates z, r, h."""
    after = bool(ctx.attr("linear_before_reset", 0))
    _layer(ctx, ("Sigmoid", "Tanh"), 1, lambda weights, acts: Gru(*weights, acts, reset_after=after))


def lstm(ctx: Lowering) -> None:
    """Gates i, o, f, c; with peepholes (input 7)."""
    coupled, peepholes = bool(ctx.attr("input_forget", 0)), ctx.const(7)
    if ctx.has(7) and peepholes is None:
        raise ctx.refuse("P", "peepholes computed at run time", "make them constants")
    directions: Iterator[Array] = iter(peepholes if peepholes is not None else ())

    def build(weights: tuple[Matrix, Matrix, Array | None], acts: tuple[Activation, ...]) -> Cell:
        return Lstm(*weights, acts, peepholes=next(directions, None), coupled=coupled)

    _layer(ctx, ("Sigmoid", "Tanh", "Tanh"), 2, build)


Build = Callable[[tuple[Matrix, Matrix, "Array | None"], tuple[Activation, ...]], Cell]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where things lie. layout: ONNX attribute. place: of time in the tensors, 0 or 1. directions: backwards?"""

    layout: int
    place: int
    steps: int
    directions: tuple[bool, ...]

    def states(self) -> Layout:
        """Of the value [directions, batch, hidden] or [batch, directions, hidden], with directions at ``place``."""
        return (0, 1, 2) if self.layout == self.place else (1, 0, 2)

    def outputs(self) -> Layout:
        """Of Y, in tensors that have directions before the features."""
        time, batch, direction = (0, 2, 1) if self.layout == 0 else (1, 0, 2)
        return (time, batch, direction, 3) if self.place == 0 else (batch, time, direction, 3)


def _layer(ctx: Lowering, names: tuple[str, ...], states: int, build: Build) -> None:
    x, frame = _frame(ctx)
    steps = Steps(ctx)
    cells = [build(w, a) for w, a in zip(_weights(ctx), _activations(ctx, names, len(frame.directions)), strict=True)]
    mask = _mask(ctx, steps, x, frame)
    initial = [_initial(ctx, steps, 5 + i, frame) for i in range(states)]
    keep = _wanted(ctx, 0)
    outputs, finals = [], []
    for number, (cell, backwards) in enumerate(zip(cells, frame.directions, strict=True)):
        course = Course(frame.steps, frame.place, backwards, keep, mask is not None)
        sequences = [*cell.inputs(steps, x), *([] if mask is None else [mask])]
        state: State = tuple(parts[number] for parts in initial)
        output, final = run(ctx, cell, course, sequences, state)
        outputs.append(output)
        finals.append(final)
    if keep:
        whole = _side_by_side(ctx, outputs, 2)
        shape = (*whole.shape[:2], len(outputs), cells[0].hidden)
        ctx.alias(View(ctx.program.reshape(whole, shape, whole.dynamic), frame.outputs()))
    for index in range(states):
        if _wanted(ctx, index + 1):
            last = [final[index] for final in finals]
            assert all(t is not None for t in last)
            ctx.alias(
                View(_side_by_side(ctx, [t for t in last if t is not None], frame.place), frame.states()), index + 1
            )


def _frame(ctx: Lowering) -> tuple[Tensor, _Frame]:
    layout, direction = ctx.attr("layout", 0), ctx.attr("direction", "forward")
    ctx.attr("hidden_size")  # the weights say so, too
    known = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if direction not in known or layout not in {0, 1}:
        name, found = ("direction", direction) if direction not in known else ("layout", layout)
        raise ctx.refuse(name, repr(found), f"{', '.join(known)}; layout 0 or 1")
    view, time = ctx.input(0), layout
    if len(view.layout) != 3 or view.layout[-1] != 2:
        view = ctx.program.convert(view, identity(3))
    place = view.layout.index(time)
    if place in view.tensor.dynamic:
        raise ctx.refuse("X", "the number of steps is dynamic", "fix it; the batch may be dynamic")
    if view.tensor.shape[place] == 0:
        raise ctx.refuse("X", "no steps", "give one or more")
    return view.tensor, _Frame(layout, place, view.tensor.shape[place], known[direction])


def _weights(ctx: Lowering) -> list[tuple[Matrix, Matrix, Array | None]]:
    weight, recurrent, bias = matrices(ctx, 1, "W"), matrices(ctx, 2, "R"), ctx.const(3)
    if ctx.has(3) and bias is None:
        raise ctx.refuse("B", "computed at run time", "make it a constant")
    return [(w, r, None if bias is None else bias[d]) for d, (w, r) in enumerate(zip(weight, recurrent, strict=True))]


def _activations(ctx: Lowering, defaults: tuple[str, ...], directions: int) -> list[tuple[Activation, ...]]:
    """In ONNX Runtime's reading: alphas and betas go, in order, to the functions that have such a parameter."""
    names = ctx.attr("activations") or defaults * directions
    alphas, betas = (iter(ctx.attr(f"activation_{n}") or ()) for n in ("alpha", "beta"))
    clip = ctx.attr("clip")
    if len(names) != len(defaults) * directions or any(n.lower() not in PARAMETERS for n in names):
        raise ctx.refuse(
            "activations", str(list(names)), f"{len(defaults)} for each direction, of {', '.join(PARAMETERS)}"
        )
    made = []
    for name in names:
        takes = PARAMETERS[name.lower()]
        alpha = next(alphas, None) if takes[0] is not None else None
        beta = next(betas, None) if takes[1] is not None else None
        made.append(Activation(name, alpha, beta, clip or None))
    size = len(defaults)
    return [tuple(made[d * size : (d + 1) * size]) for d in range(directions)]


def _mask(ctx: Lowering, steps: Steps, x: Tensor, frame: _Frame) -> Tensor | None:
    """1 for the steps of each sample, 0 behind its end; None when all samples have all steps."""
    if not ctx.has(4):
        return None
    lengths = ctx.const(4)
    if ctx.uniform(4) == frame.steps:
        return None
    count = np.arange(frame.steps, dtype=np.int32).reshape((-1, 1, 1) if frame.place == 0 else (1, -1, 1))
    if lengths is not None:
        batch = lengths.reshape((1, -1, 1) if frame.place == 0 else (-1, 1, 1))
        return ctx.number(count < batch)
    given = ctx.input(4, (NEW, 0, NEW) if frame.place == 0 else (0, NEW, NEW)).tensor
    return steps.cast(steps.binary("LESS", count, given), np.float32)


def _initial(ctx: Lowering, steps: Steps, index: int, frame: _Frame) -> list[Tensor | None]:
    """The state before the first step for each direction; None for zeros."""
    count = len(frame.directions)
    if not ctx.has(index):
        return [None] * count
    if ctx.uniform(index) == 0:
        return [None] * count
    return [*split(steps, ctx.input(index, frame.states()).tensor, count, frame.place)]


def _wanted(ctx: Lowering, index: int) -> bool:
    value = ctx.node.outputs[index] if index < len(ctx.node.outputs) else None
    return value is not None and bool(value.name) and (bool(value.uses()) or value.is_graph_output())


def _side_by_side(ctx: Lowering, parts: list[Tensor], axis: int) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    shape = [sum(p.shape[i] for p in parts) if i == axis else s for i, s in enumerate(parts[0].shape)]
    result = ctx.program.temp(parts[0], shape, parts[0].dynamic, f"{ctx.result.name}/directions")
    ctx.emit("CONCATENATION", parts, [result], "ConcatenationOptions", axis=axis, fusedActivationFunction="NONE")
    return result


_FLOAT = Float("its state stays in float; constant weights are integers, and each run quantizes what they read")
_ROLES: tuple[InputRole, ...] = (
    "activation",
    "weight",
    "weight",
    "weight",
    "static",
    "activation",
    "activation",
    "weight",
)

ROWS = (
    Op("RNN", _FLOAT, _ROLES, lower=rnn),
    Op("GRU", _FLOAT, _ROLES, lower=gru),
    Op("LSTM", _FLOAT, _ROLES, lower=lstm),
)
