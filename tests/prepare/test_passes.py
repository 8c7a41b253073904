"""Every pass: the same numbers as before, and the form that it promises."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from exporter.errors import RecipeError
from exporter.preparing import INT8_PASSES, prepare
from tests.numbers import noise
from tests.quantize.graphs import model_of, run

SCALAR = {
    "half": 0.5,
    "one": 1.0,
    "root": 1.4142135,
    "k": 0.044715,
    "c": 0.7978846,
    "three": 3.0,
    "two": 2.0,
    "eps": 1e-5,
}
IMAGE = (2, 4, 6, 6)

# text, input shape, ops that must be left
CASES = {
    "batch norm into conv": (
        "main (float[N,4,6,6] x) => (float[N,4,6,6] y) { z = Conv<pads=[1,1,1,1]>(x, w) "
        "y = BatchNormalization(z, v1, v2, v3, v4) }",
        IMAGE,
        {"Conv": 1},
    ),
    "batch norm into grouped conv with bias": (
        "main (float[N,4,6,6] x) => (float[N,4,6,6] y) { z = Conv<group=4,pads=[1,1,1,1]>(x, dw, v1) "
        "y = BatchNormalization(z, v1, v2, v3, v4) }",
        IMAGE,
        {"Conv": 1},
    ),
    "frozen batch norm into conv": (
        "main (float[N,4,6,6] x) => (float[N,4,6,6] y) { z = Conv<pads=[1,1,1,1]>(x, w)  m = Mul(z, c411)  "
        "a = Add(d1411, m)  y = Relu(a) }",
        IMAGE,
        {"Conv": 1, "Relu": 1},
    ),
    "a scale of all channels into a transposed conv": (
        "main (float[N,4,6,6] x) => (float[N,4,8,8] y) { z = ConvTranspose(x, w, v1)  y = Mul(half, z) }",
        IMAGE,
        {"ConvTranspose": 1},
    ),
    "layer scale into matmul and bias, behind a transpose": (
        "main (float[N,3,6] x) => (float[N,5,3] y) { m = MatMul(x, m65)  a = Add(m, v5)  "
        "t = Transpose<perm=[0,2,1]>(a)  s = Mul(t, c51)  y = Relu(s) }",
        (2, 3, 6),
        {"Reshape": 2, "Gemm": 1, "Transpose": 1, "Relu": 1},
    ),
    "one number a place is no batch norm": (
        "main (float[N,4,6,6] x) => (float[N,4,6,6] y) { z = Conv<pads=[1,1,1,1]>(x, w)  y = Mul(z, c66) }",
        IMAGE,
        {"Conv": 1, "Mul": 1},
    ),
    "what another node reads is not rescaled": (
        "main (float[N,4,6,6] x) => (float[N,4,6,6] y) { z = Conv<pads=[1,1,1,1]>(x, w)  "
        "m = Mul(z, c411)  y = Add(m, z) }",
        IMAGE,
        {"Conv": 1, "Mul": 1, "Add": 1},
    ),
    "batch norm into the gemm behind": (
        "main (float[N,6] x) => (float[N,5] y) { r = Relu(x)  n = BatchNormalization(r, v6a, v6b, v6c, v6d)  "
        "y = Gemm(n, m65, v5) }",
        (3, 6),
        {"Relu": 1, "Gemm": 1},
    ),
    "batch norm of an input stays": (
        "main (float[N,6] x) => (float[N,5] y) { n = BatchNormalization(x, v6a, v6b, v6c, v6d)  y = Gemm(n, m65, v5) }",
        (3, 6),
        {"BatchNormalization": 1, "Gemm": 1},
    ),
    "full window average pool": (
        "main (float[N,4,6,6] x) => (float[N,4,1,1] y) { y = AveragePool<kernel_shape=[6,6]>(x) }",
        IMAGE,
        {"GlobalAveragePool": 1},
    ),
    "mean over space": (
        "main (float[N,4,6,6] x) => (float[N,4] y) { y = ReduceMean<keepdims=0>(x, space) }",
        IMAGE,
        {"GlobalAveragePool": 1, "Flatten": 1},
    ),
    "constants are added and multiplied": (
        "main (float[N,4,6,6] x) => (float[N,4,6,6] y) { a = Sub(x, half)  y = Div(a, three) }",
        IMAGE,
        {"Add": 1, "Mul": 1},
    ),
    "slices along two axes": (
        "main (float[N,4,6,6] x) => (float[N,4,3,2] y) { a = Slice(x, first, many, third, step2)  "
        "y = Slice(a, first, most, last, step2) }",
        IMAGE,
        {"Slice": 1},
    ),
    "bounds": (
        "main (float[N,4,6,6] x) => (float[N,4,6,6] y) { a = Max(x, half)  y = Min(one, a) }",
        IMAGE,
        {"Clip": 1},
    ),
    "padding into conv": (
        "main (float[N,4,6,6] x) => (float[N,4,6,6] y) { p = Pad(x, pads)  y = Conv(p, w) }",
        IMAGE,
        {"Conv": 1},
    ),
    "matmul and bias": (
        "main (float[N,6] x) => (float[N,5] y) { m = MatMul(x, m65)  y = Add(v5, m) }",
        (3, 6),
        {"Gemm": 1},
    ),
    "gelu, erf": (
        "main (float[N,6] x) => (float[N,6] y) { d = Div(x, root) e = Erf(d) "
        "a = Add(e, one) m = Mul(x, a) y = Mul(m, half) }",
        (3, 6),
        {"Gelu": 1},
    ),
    "gelu, tanh": (
        "main (float[N,6] x) => (float[N,6] y) { p = Pow(x, three) q = Mul(p, k) r = Add(x, q) s = Mul(r, c) "
        "t = Tanh(s) u = Add(t, one) h = Mul(x, half) y = Mul(h, u) }",
        (3, 6),
        {"Gelu": 1},
    ),
    "layer norm": (
        "main (float[N,3,6] x) => (float[N,3,6] y) { m = ReduceMean(x, last) d = Sub(x, m) s = Pow(d, two) "
        "v = ReduceMean(s, last) e = Add(v, eps) r = Sqrt(e) n = Div(d, r) t = Mul(n, v6a) y = Add(t, v6b) }",
        (2, 3, 6),
        {"LayerNormalization": 1},
    ),
    "hard swish": (
        "main (float[N,6] x) => (float[N,6] y) { y = HardSwish(x) }",
        (3, 6),
        {"Add": 1, "Clip": 1, "Mul": 2},
    ),
    "hard sigmoid times its input": (
        "main (float[N,6] x) => (float[N,6] y) { h = HardSigmoid<alpha=0.16666667>(x)  y = Mul(h, x) }",
        (3, 6),
        {"Add": 1, "Clip": 1, "Mul": 2},
    ),
    "hard sigmoid": (
        "main (float[N,6] x) => (float[N,6] y) { y = HardSigmoid<alpha=0.16666667>(x) }",
        (3, 6),
        {"Add": 1, "Clip": 1, "Mul": 1},
    ),
    "transposes cancel": (
        "main (float[N,4,6,6] x) => (float[N,4,6,6] y) "
        "{ a = Transpose<perm=[0,2,3,1]>(x) b = Transpose<perm=[0,3,1,2]>(a) y = Relu(b) }",
        IMAGE,
        {"Relu": 1},
    ),
}

ARRAYS = {
    **{name: np.float32(value) for name, value in SCALAR.items()},
    "w": noise(4, 4, 3, 3),
    "dw": noise(4, 1, 3, 3),
    "v1": noise(4),
    "v2": noise(4),
    "v3": noise(4),
    "v4": np.abs(noise(4)) + 0.5,
    "v5": noise(5),
    "v6a": noise(6),
    "v6b": noise(6),
    "v6c": noise(6),
    "v6d": np.abs(noise(6)) + 0.5,
    "c411": noise(4, 1, 1),
    "d1411": noise(1, 4, 1, 1),
    "c51": noise(5, 1),
    "c66": noise(6, 6),
    "m65": noise(6, 5),
    "space": np.array([2, 3], np.int64),
    "last": np.array([-1], np.int64),
    "first": np.array([0], np.int64),
    "third": np.array([2], np.int64),
    "step2": np.array([2], np.int64),
    "many": np.array([99], np.int64),
    "most": np.array([4], np.int64),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
}


@pytest.mark.parametrize("name", CASES)
def test_pass(name):
    text, shape, left = CASES[name]
    used = {
        key: array for key, array in ARRAYS.items() if f" {key})" in text or f" {key}," in text or f"({key}," in text
    }
    model = model_of(text, **used)
    prepared = prepare(model, INT8_PASSES)
    assert Counter(node.op_type for node in prepared.graph) == left
    feeds = {"x": noise(*shape) * 2}
    np.testing.assert_allclose(run(prepared, feeds)["y"], run(model, feeds)["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("passes", [["unshare"], INT8_PASSES])
def test_a_shared_bias_gets_a_copy_for_each_reader(passes):
    model = model_of(
        "main (float[1,4,6,6] x) => (float[1,4,6,6] y) "
        "{ a = Conv<pads=[1,1,1,1]>(x, w, b)  y = Conv<pads=[1,1,1,1]>(a, w, b) }",
        w=noise(4, 4, 3, 3),
        b=noise(4),
    )
    first, second = prepare(model, passes).graph
    assert first.inputs[1] is second.inputs[1], "the weights agree on their channel axis"
    assert first.inputs[2] is not second.inputs[2]


def shuffled(body, **shapes):
    arrays = {name: noise(*shape) for name, shape in shapes.items()}
    sizes = {"apart": [0, 3, 2, 2, 5, 6], "joined": [0, 3, 10, 12], "by": [0, 12, 5, 6], "cut": [0, 3, 5, 2, 6, 2]}
    used = {n: np.asarray(v, np.int64) for n, v in sizes.items() if n in body}
    return model_of("main " + body, **arrays, **used)


WIDE, DEEP = "(float[N,3,10,12] x) => (float[N,A,B,C] y) ", "(float[N,4,5,6] x) => (float[N,A,B,C] y) "
BLOCKS = {
    "pixel shuffle": (
        DEEP + "{ c = Conv(x, w, b)  r = Relu(c)  y = DepthToSpace<blocksize=2, mode=\"CRD\">(r) }",
        {"w": (12, 4, 1, 1), "b": (12,)},
        ["Conv", "Relu", "DepthToSpace"],
    ),
    "pixel shuffle, written out": (
        DEEP + "{ c = Conv(x, w) p = Reshape(c, apart) q = Transpose<perm=[0,1,4,2,5,3]>(p) y = Reshape(q, joined) }",
        {"w": (12, 4, 1, 1)},
        ["Conv", "DepthToSpace"],
    ),
    "pixel unshuffle, written out": (
        WIDE + "{ p = Reshape(x, cut)  q = Transpose<perm=[0,1,3,5,2,4]>(p)  r = Reshape(q, by)  y = Conv(r, w) }",
        {"w": (7, 12, 1, 1)},
        ["SpaceToDepth", "Conv"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
def test_pixels_and_channels(name: str):
    body, weights, expected = BLOCKS[name]
    model = shuffled(body, **weights)
    prepared = prepare(model)
    assert [n.op_type for n in prepared.graph] == expected
    assert all(n.attributes.get_string("mode", "DCR") == "DCR" for n in prepared.graph)
    feeds = {"x": noise(3, *([3, 10, 12] if body.startswith(WIDE) else [4, 5, 6]))}
    np.testing.assert_allclose(run(prepared, feeds)["y"], run(model, feeds)["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("strides=[3,3]", "Conv Relu DepthToSpace"),
        ("strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]", "Conv Relu DepthToSpace Slice"),
        ("strides=[3,3], dilations=[2,1], pads=[0,1,2,1]", "Conv Relu DepthToSpace Slice"),
        ('strides=[2,2], auto_pad="SAME_UPPER"', "Conv Relu DepthToSpace"),
        ("strides=[2,1]", "ConvTranspose Relu"),
    ],
)
def test_transposed_convolutions_in_int8(attributes, expected):
    model = model_of(
        "main (float[N,4,6,6] x) => (float[N,A,B,C] y) { c = ConvTranspose<" + attributes + ">(x, w, b)  y = Relu(c) }",
        w=noise(4, 3, 3, 3),
        b=noise(3),
    )
    prepared = prepare(model, INT8_PASSES)
    assert [n.op_type for n in prepared.graph] == expected.split()
    feeds = {"x": noise(2, 4, 6, 6)}
    np.testing.assert_allclose(run(prepared, feeds)["y"], run(model, feeds)["y"], rtol=1e-5, atol=1e-5)


def test_transposed_convolution_of_a_signal_in_int8():
    model = model_of(
        "main (float[N,4,9] x) => (float[N,A,B] y) { y = ConvTranspose<strides=[3], pads=[1,2]>(x, w, b) }",
        w=noise(4, 5, 4),
        b=noise(5),
    )
    prepared = prepare(model, INT8_PASSES)
    assert [n.op_type for n in prepared.graph] == ["Conv", "Reshape", "Transpose", "Reshape", "Slice"]
    feeds = {"x": noise(2, 4, 9)}
    np.testing.assert_allclose(run(prepared, feeds)["y"], run(model, feeds)["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ("kernel_shape=[2,2], strides=[2,2]", "Conv"),
        ("kernel_shape=[3,3], pads=[1,0,1,1], count_include_pad=1", "Conv"),
        ("kernel_shape=[2,2], dilations=[2,1]", "Conv"),
        ("kernel_shape=[3,3], pads=[1,1,1,1]", "AveragePool"),
        ("kernel_shape=[4,4], strides=[4,4], ceil_mode=1", "AveragePool"),
    ],
)
def test_averages_in_int8_are_convolutions_where_all_windows_count_alike(attributes, kind):
    model = model_of("main (float[N,4,6,6] x) => (float[N,A,B,C] y) { y = AveragePool<" + attributes + ">(x) }")
    prepared = prepare(model, INT8_PASSES)
    assert [n.op_type for n in prepared.graph] == [kind]
    assert [n.op_type for n in prepare(model).graph] == ["AveragePool"]
    feeds = {"x": noise(2, 4, 6, 6)}
    np.testing.assert_allclose(run(prepared, feeds)["y"], run(model, feeds)["y"], rtol=1e-5, atol=1e-6)


def test_outputs_keep_their_names():
    model = model_of(
        "main (float[2,2] x) => (float[2,2] a, float[2,2] b, float[2,2] c, float[2,2] d, float[2,2] e) "
        "{ a = Relu(x)  b = Relu(x)  c = Identity(x)  t = Tanh(x)  d = Identity(t)  e = Identity(d) }"
    )
    prepared = prepare(model, INT8_PASSES)
    assert [v.name for v in prepared.graph.outputs] == ["a", "b", "c", "d", "e"]
    feeds = {"x": noise(2, 2)}
    assert {n: a.tolist() for n, a in run(prepared, feeds).items()} == {
        n: a.tolist() for n, a in run(model, feeds).items()
    }


def test_unknown_pass():
    model = model_of("main (float[4] x) => (float[4] y) { y = Relu(x) }")
    with pytest.raises(RecipeError, match="unknown pass 'fuze'"):
        prepare(model, ["fuze"])


def test_a_constant_that_is_an_output_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    model = model_of("main (float[N,4] x) => (float[N,4] y, float[4] k) { y = Add(x, k) }", k=noise(4))
    found = prepare(model, INT8_PASSES)
    assert [value.name for value in found.graph.outputs] == ["y", "k"]
    assert caplog.text == ""
