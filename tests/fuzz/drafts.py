"""Random small graphs over the operator table, drawn by hypothesis: shapes, attributes, constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Draft", "drafts"]

Shape = tuple[int, ...]
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Value:
    """A float tensor: its name and shape with the batch in front."""

    name: str
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass
class Draft:
    """A graph on its way. ``batch``: the size of the first dimension; ``dynamic``: it is called N."""

    batch: int
    dynamic: bool
    inputs: list[Value] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape: int) -> str:
        fan = max(int(np.prod(shape[1:])), 1)
        return self.constant((self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))

    def ints(self, *numbers: int) -> str:
        return self.constant(np.asarray(numbers, np.int64))

    def add(self, op: str, inputs: list[str], shapes: list[Shape], **attributes: Any) -> list[Value]:
        outputs = [Value(f"v{len(self.values) + i}", shape) for i, shape in enumerate(shapes)]
        self.nodes.append(helper.make_node(op, inputs, [o.name for o in outputs], **attributes))
        self.values += outputs
        return outputs

    def model(self) -> onnx.ModelProto:
        """Every value that nobody reads is an output."""
        read = {name for node in self.nodes for name in node.input}
        made = self.values[len(self.inputs) :]
        ends = [v for v in made if v.name not in read]

        def info(value: Value) -> onnx.ValueInfoProto:
            shape: list[Any] = list(value.shape)
            if self.dynamic:
                shape[0] = "N"
            return helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape)

        outs = [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, None) for v in ends]
        graph = helper.make_graph(self.nodes, "fuzz", [info(v) for v in self.inputs], outs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@st.composite
def drafts(draw: Draw, *, largest: int = 7) -> Draft:
    """One to ``largest`` operators on one or two inputs."""
    draft = Draft(draw(st.sampled_from((1, 2, 3))), draw(st.booleans()))
    draft.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    for number in range(draw(st.sampled_from((1, 1, 2)))):
        rank = draw(st.sampled_from((2, 3, 4, 4, 4)))
        sizes = [draw(st.sampled_from((1, 2, 3, 4, 6, 8))) for _ in range(rank - 1)]
        value = Value(f"x{number}", (draft.batch, *sizes))
        draft.inputs.append(value)
        draft.values.append(value)
    for _ in range(draw(st.integers(1, largest))):
        value = draw(st.sampled_from(draft.values[-3:]))
        fitting = [make for make in MAKERS if make.fits(value)]
        draw(st.sampled_from(fitting)).make(draw, draft, value)
    if not draft.nodes:  # what was drawn did not fit
        draft.add("Relu", [draft.inputs[0].name], [draft.inputs[0].shape])
    return draft


@dataclass(frozen=True)
class Maker:
    """How one kind of node is drawn, and for which values it makes sense."""

    make: Callable[[Draw, Draft, Value], None]
    fits: Callable[[Value], bool] = lambda value: True


def _unary(draw: Draw, draft: Draft, value: Value) -> None:
    number = st.sampled_from((0.1, 0.25, 0.5, 1.0, 1.5))
    op, names = draw(st.sampled_from(_UNARY))
    draft.add(op, [value.name], [value.shape], **{name: draw(number) for name in names})


_UNARY = (
    ("Relu", ()), ("Sigmoid", ()), ("Tanh", ()), ("HardSwish", ()), ("HardSigmoid", ("alpha", "beta")),
    ("Elu", ("alpha",)), ("LeakyRelu", ("alpha",)), ("Softplus", ()), ("Softsign", ()), ("Abs", ()), ("Neg", ()),
    ("Erf", ()), ("Gelu", ()), ("Mish", ()), ("Selu", ()), ("Celu", ("alpha",)), ("Sin", ()), ("Exp", ()),
    ("ThresholdedRelu", ("alpha",)), ("Identity", ()),
)  # fmt: skip


def _clip(draw: Draw, draft: Draft, value: Value) -> None:
    low, high = draw(st.sampled_from(((0.0, 6.0), (-1.0, 1.0), (0.0, None), (None, 0.5), (-0.3, 2.0))))
    bounds = ["" if b is None else draft.constant(np.float32(b)) for b in (low, high)]
    draft.add("Clip", [value.name, *bounds], [value.shape])


def _binary(draw: Draw, draft: Draft, value: Value) -> None:
    op = draw(st.sampled_from(("Add", "Sub", "Mul", "Max", "Min", "Div", "PRelu")))
    partners = [v for v in draft.values if _joins(v.shape, value.shape)]
    if op not in {"Div", "PRelu"} and draw(st.booleans()):
        other = draw(st.sampled_from(partners))
        pair = [value.name, other.name]
        if draw(st.booleans()):
            pair.reverse()
        draft.add(op, pair, [tuple(np.broadcast_shapes(value.shape, other.shape))])
        return
    kept = draw(st.integers(0, value.rank - 1))  # trailing axes that the constant has
    shape = [s if draw(st.booleans()) else 1 for s in value.shape[value.rank - kept :]]
    numbers = draft.rng.standard_normal(shape).astype(np.float32)
    if op == "Div":
        numbers = np.sign(numbers + 0.01) * (np.abs(numbers) + 0.5)
    draft.add(op, [value.name, draft.constant(np.asarray(numbers, np.float32))], [value.shape])


def _joins(a: Shape, b: Shape) -> bool:
    if len(a) != len(b):
        return False  # the batch would meet another axis
    return all(x == y or 1 in (x, y) for x, y in zip(a[1:], b[1:], strict=True))


def _window(draw: Draw, size: int) -> tuple[int, int, int, tuple[int, int]]:
    """kernel, stride, dilation, pads that leave at least one place."""
    kernel = draw(st.integers(1, min(3, size)))
    dilation = draw(st.sampled_from((1, 1, 2))) if (kernel - 1) * 2 < size else 1
    reach = (kernel - 1) * dilation
    pads = draw(st.sampled_from(((0, 0), (reach // 2, reach // 2), (0, reach), (reach, 0))))
    return kernel, draw(st.sampled_from((1, 1, 2))), dilation, pads


def _conv(draw: Draw, draft: Draft, value: Value) -> None:
    channels, spatial = value.shape[1], value.shape[2:]
    group = draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0]))
    out = group * draw(st.integers(1, 3))
    windows = [_window(draw, s) for s in spatial]
    kernel = [w[0] for w in windows]
    names = [value.name, draft.weights(out, channels // group, *kernel)]
    if draw(st.booleans()):
        names.append(draft.weights(out))
    auto = draw(st.sampled_from(("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")))
    if auto.startswith("SAME"):  # ONNX Runtime has no dilation there
        windows = [(kernel_, stride, 1, pads) for kernel_, stride, _, pads in windows]
    sizes, attributes = [], {"group": group, "strides": [w[1] for w in windows], "dilations": [w[2] for w in windows]}
    for size, (k, stride, dilation, pads) in zip(spatial, windows, strict=True):
        reach = (k - 1) * dilation + 1
        total = sum(pads) if auto == "NOTSET" else 0
        sizes.append(-(-size // stride) if auto.startswith("SAME") else (size + total - reach) // stride + 1)
    if auto == "NOTSET":
        attributes["pads"] = [w[3][0] for w in windows] + [w[3][1] for w in windows]
    else:
        attributes["auto_pad"] = auto
    draft.add("Conv", names, [(value.shape[0], out, *sizes)], **attributes)


def _conv_transpose(draw: Draw, draft: Draft, value: Value) -> None:
    channels, spatial = value.shape[1], value.shape[2:]
    out, kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    extra = draw(st.integers(0, stride - 1))
    sizes = [(s - 1) * stride + kernel + extra for s in spatial]
    names = [value.name, draft.weights(channels, out, *[kernel] * len(spatial))]
    both = {"strides": [stride] * len(spatial), "output_padding": [extra] * len(spatial)}
    draft.add("ConvTranspose", names, [(value.shape[0], out, *sizes)], **both)


def _pool(draw: Draw, draft: Draft, value: Value) -> None:
    op = draw(st.sampled_from(("MaxPool", "AveragePool")))
    spatial = value.shape[2:]
    kernel = [draw(st.integers(1, min(3, s))) for s in spatial]
    stride = draw(st.integers(1, 2))
    pads = [draw(st.integers(0, k // 2)) for k in kernel]
    ceil = draw(st.booleans())
    sizes = []
    for size, k, pad in zip(spatial, kernel, pads, strict=True):
        room = size + 2 * pad - k
        count = (-(-room // stride) if ceil else room // stride) + 1
        sizes.append(count - 1 if ceil and (count - 1) * stride >= size + pad else count)
    attributes = {"kernel_shape": kernel, "strides": [stride] * len(kernel), "pads": pads * 2, "ceil_mode": int(ceil)}
    if op == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    draft.add(op, [value.name], [(*value.shape[:2], *sizes)], **attributes)


def _global_pool(draw: Draw, draft: Draft, value: Value) -> None:
    op = draw(st.sampled_from(("GlobalAveragePool", "GlobalMaxPool")))
    draft.add(op, [value.name], [(*value.shape[:2], *[1] * (value.rank - 2))])


def _norm(draw: Draw, draft: Draft, value: Value) -> None:
    op = draw(st.sampled_from(("BatchNormalization", "InstanceNormalization", "LayerNormalization")))
    if op == "LayerNormalization":
        axis = draw(st.integers(1, value.rank - 1))
        names = [draft.weights(*value.shape[axis:]), draft.weights(*value.shape[axis:])]
        draft.add(op, [value.name, *names], [value.shape], axis=axis)
        return
    if op == "InstanceNormalization" and int(np.prod(value.shape[2:])) < 4:
        return  # a variance of next to nothing turns rounding into anything
    channels = value.shape[1]
    names = [draft.weights(channels), draft.weights(channels)]
    if op == "BatchNormalization":
        variance = draft.constant((draft.rng.random(channels) + 0.5).astype(np.float32))
        names += [draft.weights(channels), variance]
    draft.add(op, [value.name, *names], [value.shape])


def _matmul(draw: Draw, draft: Draft, value: Value) -> None:
    out = draw(st.integers(1, 6))
    shape = (*value.shape[:-1], out)
    if value.rank == 2 and draw(st.booleans()):
        turned = draw(st.booleans())
        weight = draft.weights(out, value.shape[-1]) if turned else draft.weights(value.shape[-1], out)
        draft.add("Gemm", [value.name, weight, draft.weights(out)], [shape], transB=int(turned))
    elif value.rank > 2 and draw(st.booleans()):
        order = [*range(value.rank - 2), value.rank - 1, value.rank - 2]
        turned_shape = tuple(value.shape[a] for a in order)
        (other,) = draft.add("Transpose", [value.name], [turned_shape], perm=order)
        draft.add("MatMul", [value.name, other.name], [(*value.shape[:-1], value.shape[-2])])
    else:
        draft.add("MatMul", [value.name, draft.weights(value.shape[-1], out)], [shape])


def _transpose(draw: Draw, draft: Draft, value: Value) -> None:
    rest = draw(st.permutations(range(1, value.rank)))
    order = [0, *rest]
    draft.add("Transpose", [value.name], [tuple(value.shape[a] for a in order)], perm=order)


def _reshape(draw: Draw, draft: Draft, value: Value) -> None:
    left = int(np.prod(value.shape[1:]))
    sizes: list[int] = []
    for _ in range(draw(st.integers(0, 3))):
        factor = draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
        sizes.append(factor)
        left //= factor
    sizes.append(left)
    target = (-1 if draw(st.booleans()) else 0, *sizes)
    draft.add("Reshape", [value.name, draft.ints(*target)], [(value.shape[0], *sizes)])


def _slice(draw: Draw, draft: Draft, value: Value) -> None:
    axis = draw(st.integers(1, value.rank - 1))
    size = value.shape[axis]
    start = draw(st.integers(-size, size - 1))
    step = draw(st.sampled_from((1, 1, 2, -1)))
    end = size + 5 if step > 0 else -size - 5
    count = len(range(*slice(start, end, step).indices(size)))
    shape = (*value.shape[:axis], count, *value.shape[axis + 1 :])
    draft.add("Slice", [value.name, draft.ints(start), draft.ints(end), draft.ints(axis), draft.ints(step)], [shape])


def _concat(draw: Draw, draft: Draft, value: Value) -> None:
    axis = draw(st.integers(1, value.rank - 1))

    def without(shape: Shape) -> Shape:
        return (*shape[:axis], *shape[axis + 1 :])

    fitting = [v for v in draft.values if v.rank == value.rank and without(v.shape) == without(value.shape)]
    parts = [value, *draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=2))]
    total = sum(p.shape[axis] for p in parts)
    shape = (*value.shape[:axis], total, *value.shape[axis + 1 :])
    draft.add("Concat", [p.name for p in parts], [shape], axis=axis)


def _split(draw: Draw, draft: Draft, value: Value) -> None:
    axis = draw(st.integers(1, value.rank - 1))
    size = value.shape[axis]
    first = draw(st.integers(1, size))
    parts = [p for p in (first, size - first) if p]
    shapes = [(*value.shape[:axis], p, *value.shape[axis + 1 :]) for p in parts]
    draft.add("Split", [value.name, draft.ints(*parts)], shapes, axis=axis)


def _pad(draw: Draw, draft: Draft, value: Value) -> None:
    mode = draw(st.sampled_from(("constant", "constant", "reflect", "edge")))
    axis = draw(st.integers(1, value.rank - 1))
    most = value.shape[axis] - 1 if mode == "reflect" else 2
    before, after = draw(st.integers(0, most)), draw(st.integers(0, most))
    names = [value.name, draft.ints(before, after)]
    names += [draft.constant(np.float32(draw(st.sampled_from((0.0, 0.5)))))] if mode == "constant" else [""]
    shape = (*value.shape[:axis], value.shape[axis] + before + after, *value.shape[axis + 1 :])
    draft.add("Pad", [*names, draft.ints(axis)], [shape], mode=mode)


def _resize(draw: Draw, draft: Draft, value: Value) -> None:
    mode = draw(st.sampled_from(("nearest", "linear")))
    factor = draw(st.sampled_from((2, 3)))
    places = draw(st.sampled_from(("half_pixel", "asymmetric", "align_corners")))
    sizes = (*value.shape[:2], *[s * factor for s in value.shape[2:]])
    scales = draft.constant(np.asarray([1, 1, *[factor] * (value.rank - 2)], np.float32))
    attributes = {"mode": mode, "coordinate_transformation_mode": places}
    if mode == "nearest":
        attributes["nearest_mode"] = draw(st.sampled_from(("floor", "round_prefer_floor")))
    draft.add("Resize", [value.name, "", scales], [sizes], **attributes)


def _reduce(draw: Draw, draft: Draft, value: Value) -> None:
    op = draw(st.sampled_from(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2")))
    axes = draw(st.lists(st.integers(1, value.rank - 1), min_size=1, max_size=2, unique=True))
    keep = draw(st.booleans()) or len(axes) == value.rank - 1
    shape = tuple(1 if a in axes else s for a, s in enumerate(value.shape) if keep or a not in axes)
    draft.add(op, [value.name, draft.ints(*axes)], [shape], keepdims=int(keep))


def _softmax(draw: Draw, draft: Draft, value: Value) -> None:
    op = draw(st.sampled_from(("Softmax", "Softmax", "LogSoftmax")))
    draft.add(op, [value.name], [value.shape], axis=draw(st.integers(1, value.rank - 1)))


def _gather(draw: Draw, draft: Draft, value: Value) -> None:
    axis = draw(st.integers(1, value.rank - 1))
    size = value.shape[axis]
    picked = draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=4))
    shape = (*value.shape[:axis], len(picked), *value.shape[axis + 1 :])
    draft.add("Gather", [value.name, draft.ints(*picked)], [shape], axis=axis)


def _tile(draw: Draw, draft: Draft, value: Value) -> None:
    counts = [1, *(draw(st.sampled_from((1, 1, 2))) for _ in value.shape[1:])]
    shape = tuple(s * c for s, c in zip(value.shape, counts, strict=True))
    if int(np.prod(shape)) < 4096:
        draft.add("Tile", [value.name, draft.ints(*counts)], [shape])


def _space(draw: Draw, draft: Draft, value: Value) -> None:
    n, c, h, w = value.shape
    if c % 4 == 0 and draw(st.booleans()):
        mode = draw(st.sampled_from(("DCR", "CRD")))
        draft.add("DepthToSpace", [value.name], [(n, c // 4, 2 * h, 2 * w)], blocksize=2, mode=mode)
    elif h % 2 == w % 2 == 0:
        draft.add("SpaceToDepth", [value.name], [(n, 4 * c, h // 2, w // 2)], blocksize=2)


def _squeeze(draw: Draw, draft: Draft, value: Value) -> None:
    ones = [a for a, s in enumerate(value.shape) if s == 1 and a > 0]
    if ones and value.rank > 2 and draw(st.booleans()):
        axis = draw(st.sampled_from(ones))
        shape = (*value.shape[:axis], *value.shape[axis + 1 :])
        draft.add("Squeeze", [value.name, draft.ints(axis)], [shape])
    elif value.rank < 5:
        axis = draw(st.integers(1, value.rank))
        draft.add("Unsqueeze", [value.name, draft.ints(axis)], [(*value.shape[:axis], 1, *value.shape[axis:])])


def _where(draw: Draw, draft: Draft, value: Value) -> None:
    op = draw(st.sampled_from(("Greater", "Less", "LessOrEqual")))
    number = draft.constant(np.float32(draw(st.sampled_from((-0.123, 0.456)))))
    condition = f"b{len(draft.nodes)}"
    draft.nodes.append(helper.make_node(op, [value.name, number], [condition]))
    draft.add("Where", [condition, value.name, number], [value.shape])


def _cumsum(draw: Draw, draft: Draft, value: Value) -> None:
    axis = draft.constant(np.int64(draw(st.integers(1, value.rank - 1))))
    flags = {name: draw(st.integers(0, 1)) for name in ("exclusive", "reverse")}
    draft.add("CumSum", [value.name, axis], [value.shape], **flags)


def _image(value: Value) -> bool:
    return value.rank in {3, 4} and int(np.prod(value.shape)) < 4096


MAKERS = (
    Maker(_unary),
    Maker(_unary),
    Maker(_clip),
    Maker(_binary),
    Maker(_binary),
    Maker(_conv, _image),
    Maker(_conv, _image),
    Maker(_conv, _image),
    Maker(_conv_transpose, lambda v: v.rank == 4 and int(np.prod(v.shape)) < 1024),
    Maker(_pool, _image),
    Maker(_global_pool, _image),
    Maker(_norm, lambda v: v.rank > 2),
    Maker(_matmul),
    Maker(_matmul, lambda v: int(np.prod(v.shape)) < 4096),
    Maker(_transpose),
    Maker(_reshape),
    Maker(_slice),
    Maker(_concat, lambda v: int(np.prod(v.shape)) < 2048),
    Maker(_split),
    Maker(_pad),
    Maker(_resize, lambda v: v.rank == 4 and int(np.prod(v.shape)) < 512),
    Maker(_reduce),
    Maker(_softmax),
    Maker(_gather),
    Maker(_tile),
    Maker(_space, lambda v: v.rank == 4),
    Maker(_squeeze),
    Maker(_where),
    Maker(_cumsum),
)
