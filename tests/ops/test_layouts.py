"""Random graphs of what moves axes, in any layout and with a growing batch: nothing may change but the shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.pair import Array, run_onnx, run_tflite

Shape = tuple[int, ...]  # the batch is written as 0
BATCH = 0


@dataclass
class Growing:
    """A graph in the making: nodes, and the shape of every value."""

    batch: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], shape: Shape, **attributes: Any) -> str:
        name = f"v{len(self.shapes)}"
        self.nodes.append(onnx.helper.make_node(op, inputs, [name], **attributes))
        self.shapes[name] = shape
        return name

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.asarray(values, np.int64))


def transpose(draw: st.DrawFn, g: Growing, x: str) -> str:
    shape = g.shapes[x]
    if not shape:
        return x
    order = draw(st.permutations(range(len(shape))))
    return g.add("Transpose", [x], tuple(shape[a] for a in order), perm=list(order))


def reshape(draw: st.DrawFn, g: Growing, x: str) -> str:
    """The fixed part in other factors, the batch where it is or in front of it."""
    shape = g.shapes[x]
    place = shape.index(BATCH) if BATCH in shape else len(shape)
    front, back = list(shape[:place]), list(shape[place + 1 :])
    new = [*_factors(draw, prod(front)), *shape[place : place + 1], *_factors(draw, prod(back))]
    target = [-1 if n == BATCH else n for n in new]
    return g.add("Reshape", [x, g.ints(*target)], tuple(new))


def _factors(draw: st.DrawFn, number: int) -> list[int]:
    found = []
    while number > 1:
        found.append(draw(st.sampled_from([d for d in range(2, number + 1) if number % d == 0])))
        number //= found[-1]
    if draw(st.booleans()):
        found.insert(draw(st.integers(0, len(found))), 1)
    return found


def flatten(draw: st.DrawFn, g: Growing, x: str) -> str:
    shape = g.shapes[x]
    axis = draw(st.integers(0, len(shape)))
    sides = [BATCH if BATCH in part and prod(n for n in part if n) == 1 else prod(n for n in part if n)
             for part in (shape[:axis], shape[axis:])]  # fmt: skip
    mixed = any(BATCH in part and prod(n for n in part if n) != 1 for part in (shape[:axis], shape[axis:]))
    return x if mixed else g.add("Flatten", [x], tuple(sides), axis=axis)


def squeeze(draw: st.DrawFn, g: Growing, x: str) -> str:
    shape = g.shapes[x]
    ones = [a for a, n in enumerate(shape) if n == 1]
    gone = draw(st.lists(st.sampled_from(ones), unique=True)) if ones else []
    if not gone:
        return x
    return g.add("Squeeze", [x, g.ints(*gone)], tuple(n for a, n in enumerate(shape) if a not in gone))


def unsqueeze(draw: st.DrawFn, g: Growing, x: str) -> str:
    shape = list(g.shapes[x])
    rank = len(shape) + draw(st.integers(1, 2))
    if rank > 6:
        return x
    axes = sorted(draw(st.lists(st.integers(0, rank - 1), min_size=rank - len(shape), max_size=rank - len(shape),
                                unique=True)))  # fmt: skip
    for axis in axes:
        shape.insert(axis, 1)
    return g.add("Unsqueeze", [x, g.ints(*axes)], tuple(shape))


def cut(draw: st.DrawFn, g: Growing, x: str) -> str:
    shape = list(g.shapes[x])
    axes = [a for a, n in enumerate(shape) if n > 1]
    if not axes:
        return x
    axis = draw(st.sampled_from(axes))
    first, last = draw(st.integers(-shape[axis], shape[axis] - 1)), draw(st.integers(-shape[axis], shape[axis]))
    step = draw(st.sampled_from([1, 2, -1, -2]))
    left = len(range(*slice(first, last, step).indices(shape[axis])))
    if left == 0:
        return x
    shape[axis] = left
    return g.add("Slice", [x, *(g.ints(n) for n in (first, last, axis, step))], tuple(shape))


def concat(draw: st.DrawFn, g: Growing, x: str) -> str:
    shape = g.shapes[x]
    axes = [a for a, n in enumerate(shape) if n != BATCH]
    if not axes or prod(shape) > 500:
        return x
    axis = draw(st.sampled_from(axes))
    fits = [v for v, s in g.shapes.items() if len(s) == len(shape) and _but(s, axis) == _but(shape, axis) and s[axis]]
    other = draw(st.sampled_from(fits))
    if BATCH not in shape and draw(st.booleans()):
        other = g.constant(np.arange(prod(shape), dtype=np.float32).reshape(shape))
        joined = 2 * shape[axis]
    else:
        joined = shape[axis] + g.shapes[other][axis]
    return g.add("Concat", [x, other], (*shape[:axis], joined, *shape[axis + 1 :]), axis=axis)


def _but(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def add(draw: st.DrawFn, g: Growing, x: str) -> str:
    """To something that broadcasts: another value, or a constant of any of its axes."""
    shape = g.shapes[x]
    fits = [v for v, s in g.shapes.items() if _joined(s, shape) is not None]
    if not fits:
        return x
    other = draw(st.sampled_from(fits))
    result = _joined(g.shapes[other], shape)
    if draw(st.booleans()):
        sizes = [n if n != BATCH and draw(st.booleans()) else 1 for n in shape][draw(st.integers(0, len(shape))) :]
        other, result = g.constant(np.arange(prod(sizes), dtype=np.float32).reshape(sizes)), shape
    assert result is not None
    return g.add("Add", draw(st.permutations([x, other])), result)


def _joined(a: Shape, b: Shape) -> Shape | None:
    rank = max(len(a), len(b))
    found = []
    for one, two in zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True):
        if one != two and 1 not in (one, two):
            return None
        found.append(two if one == 1 else one)
    return tuple(found) if found.count(BATCH) < 2 and prod(n for n in found if n) <= 500 else None


def mean(draw: st.DrawFn, g: Growing, x: str) -> str:
    shape = g.shapes[x]
    axes = draw(st.lists(st.sampled_from([a for a, n in enumerate(shape) if n != BATCH] or [-1]), unique=True))
    if not axes or -1 in axes:
        return x
    keep = draw(st.booleans())
    kept = tuple(1 if a in axes else n for a, n in enumerate(shape) if keep or a not in axes)
    return g.add("ReduceMean", [x, g.ints(*axes)], kept, keepdims=int(keep))


STEPS = (transpose, reshape, flatten, squeeze, unsqueeze, cut, concat, add, mean)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[onnx.ModelProto, dict[str, Shape]]:
    """A model of one or two inputs, and their shapes (0: the batch)."""
    g = Growing(draw(st.booleans()))
    sizes = st.integers(1, 4)
    for _ in range(draw(st.integers(1, 2))):
        shape = draw(st.lists(sizes, max_size=4).map(tuple))
        g.shapes[f"x{len(g.shapes)}"] = (BATCH, *shape[:3]) if g.batch else shape
    inputs = dict(g.shapes)
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=8)):
        step(draw, g, draw(st.sampled_from(list(g.shapes))))
    read = {name for node in g.nodes for name in node.input}
    results = [v for v in g.shapes if v not in read and v not in inputs][:3] or [list(g.shapes)[-1]]
    if results[0] in inputs:
        results = [g.add("Identity", [results[0]], g.shapes[results[0]])]

    def info(name: str) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, 1, [n or "N" for n in g.shapes[name]])

    made = onnx.helper.make_graph(g.nodes, "g", [info(n) for n in inputs], [info(n) for n in results], g.constants)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), inputs


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), st.booleans(), st.integers(1, 3))
def test_layouts(case: tuple[onnx.ModelProto, dict[str, Shape]], channels_last: bool, batch: int) -> None:
    model, inputs = case
    note(onnx.printer.to_text(model))
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal([m or batch for m in s]).astype(np.float32) for n, s in inputs.items()}
    wanted = dict(zip([o.name for o in model.graph.output], run_onnx(model, feeds), strict=True))
    try:
        data = emit_tflite(from_proto(model), channels_last=channels_last)
    except UnsupportedError as error:
        event(f"refused: {error}"[:100])
        return
    turned = {n: _last(a) if channels_last else a for n, a in feeds.items()}
    for name, found in run_tflite(data, turned).items():
        expected = _last(wanted[name]) if channels_last else wanted[name]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def _last(array: Array) -> Array:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
