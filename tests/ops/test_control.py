"""If, Loop, Scan, sequences and optionals: written out, or refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest

from exporter.emit.tflite import emit_tflite, read_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.pair import Array, same

RNG = np.random.default_rng(7)


def graph(text: str, constants: Mapping[str, Array] | None = None) -> onnx.ModelProto:
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\n' + text)
    for name, array in (constants or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return model


def feeds(model: onnx.ModelProto) -> dict[str, Array]:
    kinds = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.BOOL: np.bool_, onnx.TensorProto.INT64: np.int64}
    found = {}
    for value in model.graph.input:
        shape = [d.dim_value or 3 for d in value.type.tensor_type.shape.dim]
        kind = kinds[value.type.tensor_type.elem_type]
        found[value.name] = np.asarray(RNG.standard_normal(shape) * 3).astype(kind)
    return found


BRANCHES = """
    y = If (c) <then_branch = a () => (float[2,3] t) { t = Add(x, x) },
                else_branch = b () => (float[2,3] e) { s = Sub(x, k) e = Relu(s) }>
"""
CASES: dict[str, tuple[str, Mapping[str, Array]]] = {
    "a constant condition": (f"g (float[2,3] x) => (float[2,3] y) {{ {BRANCHES} }}",
                             {"c": np.asarray(False), "k": np.float32(1)}),
    "a condition from a shape": (
        f"g (float[2,3] x) => (float[2,3] y) {{ n = Size(x) c = Greater(n, five) {BRANCHES} }}",
        {"five": np.asarray(5), "k": np.float32(1)},
    ),
    "a computed condition": (f"g (float[2,3] x, bool[1] c) => (float[2,3] y) {{ {BRANCHES} }}", {"k": np.float32(1)}),
    "a computed condition and the batch": (
        "g (float[N,3] x, bool d) => (float[N,3] y) { y = If (d) "
        "<then_branch = a () => (float[N,3] t) { t = Neg(x) }, "
        "else_branch = b () => (float[N,3] e) { e = Identity(x) }> }",
        {},
    ),
    "a computed condition on scalars": (
        "g (float[2,3] x, bool[1] c) => (float y) { m = ReduceMax<keepdims=0>(x) y = If (c) "
        "<then_branch = a () => (float t) { t = Neg(m) }, else_branch = b () => (float e) { e = Identity(m) }> }",
        {},
    ),
    "an If in an If": (
        "g (float[2,3] x, bool[1] c, bool[1] d) => (float[2,3] y) { y = If (c) "
        "<then_branch = a () => (float[2,3] t) { t = If (d) <then_branch = aa () => (float[2,3] tt) { tt = Neg(x) }, "
        "else_branch = ab () => (float[2,3] te) { te = Abs(x) }> }, "
        "else_branch = b () => (float[2,3] e) { e = Relu(x) }> }",
        {},
    ),
    "a Loop": (
        "g (float[2,3] x) => (float[2,3] y, float[4,2,3] z) { y, z = Loop (n, c, x) <body = b "
        "(int64 i, bool go, float[2,3] s) => (bool on, float[2,3] r, float[2,3] o) "
        "{ on = Identity(go) f = Cast<to=1>(i) r = Add(s, f) o = Mul(r, s) }> }",
        {"n": np.asarray(4), "c": np.asarray(True)},
    ),
    "a Loop that stops itself": (
        "g (float[2] x) => (float[2] y) { y, k = Loop (, c, x, one) <body = b "
        "(int64 i, bool go, float[2] s, int64 j) => (bool on, float[2] r, int64 m) "
        "{ m = Add(j, j) on = Less(m, limit) r = Add(s, s) }> }",
        {"c": np.asarray(True), "one": np.asarray(1), "limit": np.asarray(20)},
    ),
    "a Loop that never runs": (
        "g (float[2] x) => (float[2] y) { y = Loop (n, c, x) <body = b (int64 i, bool go, float[2] s) "
        "=> (bool on, float[2] r) { on = Identity(go) r = Add(s, s) }> }",
        {"n": np.asarray(0), "c": np.asarray(True)},
    ),
    "a Loop with a computed end": (
        "g (float[2] x) => (float[2] y) { y = Loop (n, c, x) <body = b (int64 i, bool go, float[2] s) "
        "=> (bool on, float[2] r) { h = ReduceMax<keepdims=0>(s) on = Less(h, limit) r = Add(s, x) }> }",
        {"n": np.asarray(9), "c": np.asarray(True), "limit": np.float32(6)},
    ),
    "a trip count from a shape": (
        "g (float[3,2] x) => (float[3,2] y) { s = Shape<start=0, end=1>(x) y = Loop (s, c, x) <body = b "
        "(int64 i, bool go, float[3,2] a) => (bool on, float[3,2] r) "
        "{ on = Identity(go) p = Gather(x, i) q = Unsqueeze(p, zero) r = Add(a, q) }> }",
        {"c": np.asarray(True), "zero": np.asarray([0])},
    ),
    "a Loop in a Loop": (
        "g (float[2] x) => (float[2] y) { y = Loop (n, c, x) <body = b (int64 i, bool go, float[2] s) "
        "=> (bool on, float[2] r) { on = Identity(go) r = Loop (i, c, s) <body = bb (int64 ii, bool gg, float[2] ss) "
        "=> (bool oo, float[2] rr) { oo = Identity(gg) rr = Add(ss, x) }> }> }",
        {"n": np.asarray(4), "c": np.asarray(True)},
    ),
    "a Scan": (
        "g (float[2] h, float[2,5] x) => (float[2] y, float[2,5] z) { y, z = Scan (h, x) "
        "<num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1], scan_input_directions = [1], "
        "scan_output_directions = [1], body = b (float[2] s, float[2] v) => (float[2] r, float[2] o) "
        "{ a = Mul(s, half) r = Add(a, v) o = Tanh(r) }> }",
        {"half": np.float32(0.5)},
    ),
    "a Scan beside the batch": (
        "g (float[N,4,2] x) => (float[N,2] y) { p = ReduceSum<keepdims=0>(x, one) y = Scan (p, x) "
        "<num_scan_inputs = 1, scan_input_axes = [1], "
        "body = b (float[N,2] s, float[N,2] v) => (float[N,2] r) { r = Sub(v, s) }> }",
        {"one": np.asarray([1])},
    ),
    "a sequence": (
        "g (float[2,3] x) => (float[4,3] y, int64 l) { s = SequenceConstruct(x, x) n = Neg(x) "
        "t = SequenceInsert(s, n, first) u = SequenceErase(t) l = SequenceLength(u) "
        "y = ConcatFromSequence<axis = 0>(u) }",
        {"first": np.asarray(0)},
    ),
    "a stacked sequence": (
        "g (float[2,3] x) => (float[2,3] y) { s = SplitToSequence<axis = 1, keepdims = 0>(x) "
        "a = SequenceAt(s, last) e = SequenceEmpty() t = SequenceInsert(e, a) u = SequenceInsert(t, a) "
        "v = SequenceInsert(u, a) y = ConcatFromSequence<axis = 1, new_axis = 1>(v) }",
        {"last": np.asarray(-1)},
    ),
    "a sequence that a Loop fills": (
        "g (float[2,3] x) => (float[8,3] y) { e = SequenceEmpty() s = Loop (n, c, e) <body = b "
        "(int64 i, bool go, seq(float[2,3]) a) => (bool on, seq(float[2,3]) r) "
        "{ on = Identity(go) f = Cast<to=1>(i) v = Mul(x, f) r = SequenceInsert(a, v) }> "
        "y = ConcatFromSequence<axis = 0>(s) }",
        {"n": np.asarray(4), "c": np.asarray(True)},
    ),
    "an optional": (
        "g (float[2,3] x) => (float[2,3] y, bool h) { o = Optional(x) h = OptionalHasElement(o) "
        "y = OptionalGetElement(o) }",
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_written_out(case: str) -> None:
    model = graph(*CASES[case])
    for _ in range(3):
        same(model, feeds(model))


def test_a_constant_branch_leaves_no_trace() -> None:
    data = emit_tflite(from_proto(graph(*CASES["a constant condition"])))
    assert [o.code for o in read_tflite(data).operators] in (["SUB", "RELU"], ["SUB"])


REFUSED: dict[str, tuple[str, Mapping[str, Array], str]] = {
    "branches of two shapes": (
        "g (float[2,3] x, bool[1] c) => (float[A,B] y) { y = If (c) "
        "<then_branch = a () => (float[2,3] t) { t = Neg(x) }, "
        "else_branch = b () => (float[1,3] e) { e = ReduceMax<keepdims=1>(x, zero) }> }",
        {"zero": np.asarray([0])},
        "between tensors of different shapes",
    ),
    "a computed trip count": (
        "g (float[2] x, int64 n) => (float[2] y) { y = Loop (n, c, x) <body = b (int64 i, bool go, float[2] s) "
        "=> (bool on, float[2] r) { on = Identity(go) r = Add(s, s) }> }",
        {"c": np.asarray(True)},
        "make the trip count a constant",
    ),
    "too many steps": (
        "g (float[2] x) => (float[2] y) { y = Loop (n, c, x) <body = b (int64 i, bool go, float[2] s) "
        "=> (bool on, float[2] r) { on = Identity(go) r = Add(s, x) }> }",
        {"n": np.asarray(10**9), "c": np.asarray(True)},
        "more than 20000 operators",
    ),
    "a computed position": (
        "g (float[2] x, int64 n) => (float[2] y) { s = SequenceConstruct(x, x) y = SequenceAt(s, n) }",
        {},
        "content is known at run time only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    text, constants, reason = REFUSED[case]
    with pytest.raises(UnsupportedError, match=reason):
        emit_tflite(from_proto(graph(text, constants)))
