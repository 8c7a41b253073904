"""MatMul of every pair of ranks, Gemm complete: dynamic batch, transposed operands, constants on either side."""

from __future__ import annotations

import pytest

from tests.ops.text import agree, counts

PRODUCTS = {
    "vectors": ("(float[7] a, float[7] b) => (float[] y) { y = MatMul(a, b) }", {}),
    "vector, matrix": ("(float[7] a, float[7,5] b) => (float[5] y) { y = MatMul(a, b) }", {}),
    "matrix, vector": ("(float[N,7] a, float[7] b) => (float[N] y) { y = MatMul(a, b) }", {}),
    "vector, batch": ("(float[7] a, float[N,7,5] b) => (float[N,5] y) { y = MatMul(a, b) }", {}),
    "batch, vector": ("(float[N,2,6,7] a, float[7] b) => (float[N,2,6] y) { y = MatMul(a, b) }", {}),
    "batch, batch of vectors": ("(float[N,6,7] a, float[N,7,1] b) => (float[N,6,1] y) { y = MatMul(a, b) }", {}),
    "one for the batch": ("(float[N,6,7] a, float[7,5] b) => (float[N,6,5] y) { y = MatMul(a, b) }", {}),
    "spread": ("(float[2,1,6,7] a, float[3,7,5] b) => (float[2,3,6,5] y) { y = MatMul(a, b) }", {}),
    "spread both ways": ("(float[N,1,3,6,7] a, float[1,2,1,7,5] b) => (float[N,2,3,6,5] y) { y = MatMul(a, b) }", {}),
    "rank 6": ("(float[N,2,2,2,6,7] a, float[N,2,2,2,7,5] b) => (float[N,2,2,2,6,5] y) { y = MatMul(a, b) }", {}),
    "rank 6, spread": ("(float[2,2,2,1,6,7] a, float[3,7,5] b) => (float[2,2,2,3,6,5] y) { y = MatMul(a, b) }", {}),
    "constant right": ("(float[N,6,7] a, float[7,5] w) => (float[N,6,5] y) { y = MatMul(a, w) }", {"constants": "w"}),
    "constant vector": ("(float[N,6,7] a, float[7] w) => (float[N,6] y) { y = MatMul(a, w) }", {"constants": "w"}),
    "vector, constant": ("(float[7] a, float[7,5] w) => (float[5] y) { y = MatMul(a, w) }", {"constants": "w"}),
    "vector, constant vector": ("(float[7] a, float[7] w) => (float[] y) { y = MatMul(a, w) }", {"constants": "w"}),
    "constant left": ("(float[6,7] w, float[N,7,5] b) => (float[N,6,5] y) { y = MatMul(w, b) }", {"constants": "w"}),
    "constant batch": (
        "(float[N,2,6,7] a, float[2,7,5] w) => (float[N,2,6,5] y) { y = MatMul(a, w) }",
        {"constants": "w"},
    ),
    "bias": (
        "(float[N,6,7] a, float[7,5] w, float[5] c) => (float[N,6,5] y) { t = MatMul(a, w) y = Add(c, t) }",
        {"constants": "wc"},
    ),
    "one number as bias": (
        "(float[N,6,7] a, float[7,5] w, float[] c) => (float[N,6,5] y) { t = MatMul(a, w) y = Add(t, c) }",
        {"constants": "wc"},
    ),
    "bias of each row": (
        "(float[N,6,7] a, float[7,5] w, float[6,1] c) => (float[N,6,5] y) { t = MatMul(a, w) y = Add(t, c) }",
        {"constants": "wc"},
    ),
    "bias and Relu": (
        "(float[N,6,7] a, float[7,5] w, float[5] c) => (float[N,6,5] y) { t = MatMul(a, w) s = Add(c, t) y = Relu(s) }",
        {"constants": "wc"},
    ),
    "Relu": ("(float[N,6,7] a, float[N,7,5] b) => (float[N,6,5] y) { t = MatMul(a, b) y = Relu(t) }", {}),
    "Gemm": (
        "(float[N,7] a, float[5,7] w, float[5] c) => (float[N,5] y)"
        "{ y = Gemm<transA = 0, transB = 1, alpha = 0.5, beta = 2.0>(a, w, c) }",
        {"constants": "wc"},
    ),
    "Gemm, one number added": (
        "(float[N,7] a, float[7,5] w, float[] c) => (float[N,5] y) { y = Gemm<beta = 2.0>(a, w, c) }",
        {"constants": "wc"},
    ),
    "Gemm, nothing added": ("(float[N,7] a, float[7,5] w) => (float[N,5] y) { y = Gemm(a, w) }", {"constants": "w"}),
    "Gemm, left turned": (
        "(float[7,N] a, float[7,5] w, float[5] c) => (float[N,5] y) { y = Gemm<transA = 1>(a, w, c) }",
        {"constants": "wc", "batches": [3], "fixed": True},
    ),
    "Gemm, all computed": (
        "(float[7,6] a, float[5,7] b, float[6,1] c) => (float[6,5] y)"
        "{ y = Gemm<transA = 1, transB = 1, alpha = 0.5, beta = 0.25>(a, b, c) }",
        {},
    ),
    "Gemm, computed matrix added": (
        "(float[N,7] a, float[7,5] w, float[N,5] c) => (float[N,5] y) { y = Gemm(a, w, c) }",
        {"constants": "w"},
    ),
    "Gemm, vector": ("(float[N,7] a, float[7,5] b, float[5] c) => (float[N,5] y) { y = Gemm(a, b, c) }", {}),
    "Gemm, Relu": (
        "(float[N,7] a, float[7,5] b) => (float[N,5] y) { t = Gemm(a, b) y = Relu(t) }",
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_product(name: str) -> None:
    text, how = PRODUCTS[name]
    text = text.replace("N", "3") if how.get("fixed") else text
    data = agree(text, constants=how.get("constants", ""), batches=how.get("batches", (1, 3)))
    assert set(counts(data)) <= {"FULLY_CONNECTED", "BATCH_MATMUL", "RESHAPE", "MUL", "ADD", "RELU", "TRANSPOSE"}


TURNED = {
    "right": ("y = MatMul(a, b)", "b", (0, 2, 1), 0),
    "left": ("y = MatMul(a, b)", "a", (0, 2, 1), 0),
    "both": ("y = MatMul(a, b)", "ab", (0, 2, 1), 0),
    "batch of one": ("y = MatMul(a, b)", "a", (1, 0, 2), 1),
}


@pytest.mark.parametrize("name", TURNED)
def test_transposed_operands_are_read_as_they_lie(name: str) -> None:
    body, turned, order, transposes = TURNED[name]
    shapes = {"a": [3, 4, 5], "b": [3, 5, 6]}
    inputs, lines = [], []
    for operand, shape in shapes.items():
        source = f"{operand}0" if operand in turned else operand
        given = [shape[order.index(i)] for i in range(3)] if operand in turned else shape
        inputs.append(f"float[{','.join(map(str, given))}] {source}")
        if operand in turned:
            lines.append(f"{operand} = Transpose<perm = {list(order)}>({source})")
    data = agree(f"({', '.join(inputs)}) => (float[3,4,6] y) {{ {' '.join(lines)} {body} }}")
    assert counts(data).get("TRANSPOSE", 0) == transposes


def test_a_bias_and_an_activation_cost_no_operator() -> None:
    text = (
        "(float[N,6,7] a, float[7,5] w, float[5] c) => (float[N,6,5] y) { t = MatMul(a, w) s = Add(c, t) y = Relu(s) }"
    )
    assert counts(agree(text, constants="wc")) == {"FULLY_CONNECTED": 1}
