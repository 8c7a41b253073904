"""The steps of a recurrent layer one after another: written out when few, else as a WHILE of several steps a round.

UNIDIRECTIONAL_SEQUENCE_LSTM is not used: it keeps its state from one run to the next, and nothing in the file can reset
it. Written out, every step brings its own packed copy of the recurrent weights, and they have to stay in a cache; a
round of the loop costs some 1.5 us. An LSTM on the machine of docs/benchmarks.md, written out and as a loop of four
steps a round: 40 steps of 48 units 57 and 52 us in float, 26 and 43 us with int8 weights; 61 steps of 96 units 448 and
147 us, 159 and 86 us. Eight steps a round were never faster than four.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from exporter.ops.lowering import Lowering, Program, Region, Tensor
from exporter.ops.recurrent_cells import Cell, State, split
from exporter.ops.steps import Steps

__all__ = ["Course", "run"]

_SHORT = 8  # steps that are always written out
_LONG = 64  # steps that are written out when their copies of the recurrent weights are at most ..
_COPIES = 5 << 18  # .. so many bytes: most of what the last cache of a Raspberry Pi 5 holds
_ROUND = 4  # steps at most
_CACHE = 1 << 19  # bytes: recurrent weights of one round should stay in a small core's second-level cache


@dataclass(frozen=True, slots=True)
class Course:
    """How a layer runs over its sequences: number of steps, the place of time (0 or 1), backwards, all outputs wanted.

    masked: the last sequence is 1 where a step counts and 0 where it is behind the end of its sample
    """

    steps: int
    place: int
    backwards: bool
    keep: bool
    masked: bool

    def order(self) -> list[int]:
        """Steps in the order of computation."""
        return list(reversed(range(self.steps))) if self.backwards else list(range(self.steps))

    def in_time(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Outputs in the order of time."""
        return list(reversed(outputs)) if self.backwards else list(outputs)


def run(ctx: Lowering, cell: Cell, course: Course, sequences: Sequence[Tensor], state: State) -> tuple[Tensor, State]:
    """All outputs (or the last one, where not all are kept) with time in its place, and the last state."""
    copies = course.steps * cell.recurrent.packed(ctx)
    fitting = course.steps <= _LONG and copies <= _COPIES and not ctx.storage.smallest
    if course.steps <= _SHORT or fitting:
        return _written_out(Steps(ctx), cell, course, sequences, state)
    return _looped(ctx, cell, course, sequences, state)


def _advance(
    steps: Steps, cell: Cell, course: Course, parts: Sequence[Tensor], state: State
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Output and state after one step."""
    if not course.masked:
        new = cell.step(steps, parts, state)
        return new[0], new
    *own, mask = parts
    new = cell.step(steps, own, state)
    gone = steps.sub(np.ones((1, 1, 1), np.float32), mask)
    kept = [steps.mul(n, mask) for n in new]
    after = [k if s is None else steps.add(k, steps.mul(s, gone)) for k, s in zip(kept, state, strict=True)]
    return kept[0], tuple(after)


def _written_out(
    steps: Steps, cell: Cell, course: Course, sequences: Sequence[Tensor], state: State
) -> tuple[Tensor, State]:
    parts = list(zip(*(split(steps, s, course.steps, course.place) for s in sequences), strict=True))
    outputs = []
    for t in course.order():
        output, state = _advance(steps, cell, course, parts[t], state)
        outputs.append(output)
    return (_joined(steps, course.in_time(outputs), course.place) if course.keep else outputs[-1]), state


def _joined(steps: Steps, parts: Sequence[Tensor], place: int) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    shape = [sum(p.shape[i] for p in parts) if i == place else s for i, s in enumerate(parts[0].shape)]
    result = steps.ctx.program.temp(parts[0], shape, parts[0].dynamic, f"{steps.ctx.result.name}/steps")
    steps.ctx.emit("CONCATENATION", parts, [result], "ConcatenationOptions", axis=place, fusedActivationFunction="NONE")
    return result


def _cut(steps: Steps, x: Tensor, place: int, start: int, stop: int, width: int | None = None) -> Tensor:
    """x[start:stop] in time, and of that the first ``width`` features."""
    ctx = steps.ctx
    begin, end = [0, 0, 0], list(x.shape)
    begin[place], end[place] = start, stop
    end[2] = width or end[2]
    masked = sum(1 << i for i in x.dynamic)
    result = ctx.program.temp(x, [e - b for b, e in zip(begin, end, strict=True)], x.dynamic, f"{ctx.result.name}/cut")
    ctx.emit("STRIDED_SLICE", [x, ctx.ints(begin), ctx.ints(end), ctx.ints([1, 1, 1])], [result],
             "StridedSliceOptions", beginMask=masked, endMask=masked)  # fmt: skip
    return result


def _looped(
    ctx: Lowering, cell: Cell, course: Course, sequences: Sequence[Tensor], state: State
) -> tuple[Tensor, State]:
    """The first steps, which give the state its shape, and then whole rounds."""
    steps, place = Steps(ctx), course.place
    round_ = _steps_a_round(cell.recurrent.packed(ctx))
    first = (course.steps - 1) % round_ + 1
    order, outputs = course.order(), []
    for t in order[:first]:
        parts = [_cut(steps, s, place, t, t + 1) for s in sequences]
        output, state = _advance(steps, cell, course, parts, state)
        outputs.append(output)
    done = _joined(steps, course.in_time(outputs), place)
    start, stop = (0, course.steps - first) if course.backwards else (first, course.steps)
    space = _cut(steps, sequences[0], place, start, stop, cell.hidden)  # to be overwritten
    whole = _joined(steps, [space, done] if course.backwards else [done, space], place) if course.keep else outputs[-1]
    variables = [ctx.ints([order[first]]), *(s for s in state if s is not None), whole, *sequences]
    results = [ctx.program.temp(v, v.shape, v.dynamic, f"{ctx.result.name}/loop") for v in variables]
    loop = _Loop(ctx, cell, course, len(state), round_)
    ctx.emit("WHILE", variables, results, "WhileOptions", condSubgraphIndex=loop.condition(variables),
             bodySubgraphIndex=loop.body(variables))  # fmt: skip
    return results[1 + len(state)], tuple(results[1 : 1 + len(state)])


def _steps_a_round(weights: int) -> int:
    """More steps share one round's copies of the sequences; each holds its own packed weights."""
    fitting = _CACHE // max(weights, 1)
    return max(1, min(_ROUND, 1 << max(fitting.bit_length() - 1, 0)))


@dataclass(frozen=True, slots=True)
class _Loop:
    """The two subgraphs of the WHILE. Variables: [first step of the round], state, outputs so far, sequences."""

    ctx: Lowering
    cell: Cell
    course: Course
    states: int
    round: int

    def condition(self, like: Sequence[Tensor]) -> Region:
        steps, variables = self._start(like)
        if self.course.backwards:
            going = steps.binary("GREATER_EQUAL", variables[0], np.asarray([0]))
        else:
            going = steps.binary("LESS", variables[0], np.asarray([self.course.steps]))
        return self._region("condition", steps, variables, [going])

    def body(self, like: Sequence[Tensor]) -> Region:
        steps, variables = self._start(like)
        step, state = variables[0], tuple(variables[1 : 1 + self.states])
        whole, sequences = variables[1 + self.states], variables[2 + self.states :]
        sign = -1 if self.course.backwards else 1
        places = steps.add(step, sign * np.arange(self.round))
        outputs = []
        for parts in self._parts(steps, places, sequences):
            output, state = _advance(steps, self.cell, self.course, parts, state)
            outputs.append(output)
        if self.course.keep:
            first = steps.sub(step, np.asarray([self.round - 1])) if self.course.backwards else step
            whole = self._written(steps, whole, self.course.in_time(outputs), first)
        else:
            whole = outputs[-1]
        after = steps.add(step, np.asarray([sign * self.round]))
        return self._region("body", steps, variables, [after, *state, whole, *sequences])

    def _start(self, like: Sequence[Tensor]) -> tuple[Steps, list[Tensor]]:
        ctx = self.ctx
        inner = Lowering(
            ctx.node, Program(), ctx.values, integer=False, result=ctx.result, fused="NONE", storage=ctx.storage
        )
        names = (inner.program.name("variable") for _ in like)
        return Steps(inner), [Tensor(n, v.shape, v.dtype, v.dynamic) for n, v in zip(names, like, strict=True)]

    def _region(self, name: str, steps: Steps, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Region:
        given, made = ([(t.name, t) for t in tensors] for tensors in (inputs, outputs))
        return Region(f"{self.ctx.result.name}/{name}", steps.ctx.program.operators, given, made)

    def _parts(self, steps: Steps, places: Tensor, sequences: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
        found, axis = [], self.course.place
        for sequence in sequences:
            shape = [self.round if i == axis else s for i, s in enumerate(sequence.shape)]
            rows = steps.ctx.program.temp(sequence, shape, sequence.dynamic, "rows")
            steps.ctx.emit("GATHER", [sequence, places], [rows], "GatherOptions", axis=axis, batchDims=0)
            found.append(split(steps, rows, self.round, axis))
        return zip(*found, strict=True)

    def _written(self, steps: Steps, whole: Tensor, outputs: Sequence[Tensor], first: Tensor) -> Tensor:
        """DYNAMIC_UPDATE_SLICE at the round's first step."""
        ctx, zero = steps.ctx, steps.ctx.ints([0])
        corner = ctx.program.temp(first, (3,), frozenset(), "corner")
        numbers = [first if i == self.course.place else zero for i in range(3)]
        ctx.emit("CONCATENATION", numbers, [corner], "ConcatenationOptions", axis=0, fusedActivationFunction="NONE")
        result = ctx.program.temp(whole, whole.shape, whole.dynamic, "whole")
        update = _joined(steps, outputs, self.course.place)
        ctx.emit("DYNAMIC_UPDATE_SLICE", [whole, update, corner], [result], "DynamicUpdateSliceOptions")
        return result
