"""Loop and Scan, step after step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from exporter import graph
from exporter.control.writer import Result, Rule, Writer

__all__ = ["LOOPS"]


def loop(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """As many steps as the trip count and the condition give, where they are known.

    A condition that is computed only chooses, after each of a known number of steps, between the old state and the new.
    """
    body = writer.inner(node, "body")
    trips = writer.known(inputs[0])
    going = writer.known(inputs[1]) if len(inputs) > 1 else None
    if inputs[0] is not None and trips is None:
        return None
    active = inputs[1] if len(inputs) > 1 and going is None else None
    flag = writer.scalar(active) if isinstance(active, ir.Value) else None
    carried = list(inputs[2:])
    count = len(carried)
    stacks: list[list[ir.Value]] = [[] for _ in body.outputs[1 + count :]]
    step, more = 0, going is None or bool(going.item())
    while more and (trips is None or step < int(trips.item())):
        if flag is not None and (stacks or trips is None):
            return None  # how many rows there are is known at run time only
        truth = writer.constant(np.asarray(True))
        given = [writer.constant(np.asarray(step)), truth if flag is None else flag, *carried]
        results = writer.body(body, {v: r for v, r in zip(body.inputs, given, strict=True) if r is not None})
        if results is None or not _stack(stacks, results[1 + count :]):
            return None
        after = results[1 : 1 + count]
        if flag is not None:
            chosen = [writer.choice(flag, a, b) for a, b in zip(after, carried, strict=True) if b is not None]
            if None in chosen or len(chosen) < count:
                return None
            after = [c for c in chosen if c is not None]
        carried, step = list(after), step + 1
        verdict = writer.known(results[0])
        if verdict is not None:
            more = bool(verdict.item())
        elif isinstance(results[0], ir.Value):
            condition = writer.scalar(results[0])
            flag = condition if flag is None else writer.op("And", flag, condition)
    rows = [_joined(s, node.outputs[count + n], 0, writer) for n, s in enumerate(stacks)]
    if any(r is None for r in [*carried, *rows]):
        return None
    return [r for r in [*carried, *rows] if r is not None]


def scan(node: ir.Node, inputs: Sequence[Result | None], writer: Writer) -> list[Result] | None:
    """One step for each slice of its inputs."""
    body = writer.inner(node, "body")
    count = node.attributes["num_scan_inputs"].as_int()
    carried, sources = list(inputs[: len(inputs) - count]), inputs[len(inputs) - count :]
    axes = node.attributes.get_ints("scan_input_axes", [0] * count)
    backwards = node.attributes.get_ints("scan_input_directions", [0] * count)
    lengths = {_length(s, axis) for s, axis in zip(sources, axes, strict=True)}
    steps = lengths.pop()
    if steps is None or lengths:
        return None
    kept = len(body.outputs) - len(carried)
    stacks: list[list[ir.Value]] = [[] for _ in range(kept)]
    for step in range(steps):
        given = list(carried)
        for source, axis, turned in zip(sources, axes, backwards, strict=True):
            assert isinstance(source, ir.Value)
            place = steps - 1 - step if turned else step
            given.append(writer.op("Gather", source, np.asarray(place), axis=axis))
        results = writer.body(body, {v: r for v, r in zip(body.inputs, given, strict=True) if r is not None})
        if results is None or not _stack(stacks, results[len(carried) :]):
            return None
        carried = list(results[: len(carried)])
    axes = node.attributes.get_ints("scan_output_axes", [0] * kept)
    backwards = node.attributes.get_ints("scan_output_directions", [0] * kept)
    rows = [
        _joined(s[::-1] if turned else s, node.outputs[len(carried) + n], axis, writer)
        for n, (s, axis, turned) in enumerate(zip(stacks, axes, backwards, strict=True))
    ]
    if any(r is None for r in [*carried, *rows]):
        return None
    return [r for r in [*carried, *rows] if r is not None]


def _length(source: Result | None, axis: int) -> int | None:
    shape = graph.shape_of(source) if isinstance(source, ir.Value) else None
    return None if shape is None else shape[axis]


def _stack(stacks: list[list[ir.Value]], results: Sequence[Result]) -> bool:
    for stack, result in zip(stacks, results, strict=True):
        if not isinstance(result, ir.Value):
            return False
        stack.append(result)
    return True


def _joined(stack: Sequence[ir.Value], output: ir.Value, axis: int, writer: Writer) -> ir.Value | None:
    """The rows of all steps along a new axis; without a step an empty tensor, where its shape is known."""
    if stack:
        places = np.asarray([axis], np.int64)
        return writer.op("Concat", *[writer.op("Unsqueeze", row, places) for row in stack], axis=axis)
    shape = graph.shape_of(output)
    if shape is None or output.dtype is None:
        return None
    sizes = [0 if i == axis % len(shape) else n for i, n in enumerate(shape)]
    if any(n is None for n in sizes):
        return None
    return writer.constant(np.zeros([n for n in sizes if n is not None], output.dtype.numpy()))


LOOPS: Mapping[str, Rule] = {"Loop": loop, "Scan": scan}
