"""Attention, rotary embedding and their kin: every option against ONNX Runtime, and no operator too many."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.emit.tflite import emit_tflite
from exporter.errors import UnsupportedError
from exporter.loading import from_proto
from tests.ops.text import agree, counts, graph


def infinite_mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers, -inf here and there, and one row that sees nothing."""
    mask = np.where(rng.random(shape) < 0.3, -np.inf, rng.standard_normal(shape))
    mask[..., 0, :] = -np.inf
    return mask


def some_bools(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = rng.random(shape) < 0.6
    mask[..., -1, :] = False
    return mask


def lengths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(1, 7, shape)


FOUR = "float[N,4,5,8] q, float[N,4,6,8] k, float[N,4,6,8] v"
GROUPED = "float[N,4,5,8] q, float[N,2,6,8] k, float[N,2,6,10] v"
FLAT = "float[N,5,32] q, float[N,6,16] k, float[N,6,20] v"
PAST = f"{GROUPED}, float[N,2,3,8] pk, float[N,2,3,10] pv"
CASES = {
    "4-d": (FOUR, "Attention(q, k, v)", "float[N,4,5,8] y"),
    "scaled": (FOUR, "Attention<scale = 0.5>(q, k, v)", "float[N,4,5,8] y"),
    "grouped": (GROUPED, "Attention(q, k, v)", "float[N,4,5,10] y"),
    "3-d": (FLAT, "Attention<q_num_heads = 4, kv_num_heads = 2>(q, k, v)", "float[N,5,40] y"),
    "soft cap": (FOUR, "Attention<softcap = 2.0>(q, k, v)", "float[N,4,5,8] y"),
    "causal": (FOUR, "Attention<is_causal = 1>(q, k, v)", "float[N,4,5,8] y"),
    "causal, grouped": (GROUPED, "Attention<is_causal = 1>(q, k, v)", "float[N,4,5,10] y"),
    "causal, with past": (
        PAST,
        "Attention<is_causal = 1>(q, k, v, , pk, pv)",
        "float[N,4,5,10] y, float[N,2,9,8] a, float[N,2,9,10] b",
    ),
    "past": (PAST, "Attention(q, k, v, , pk, pv)", "float[N,4,5,10] y, float[N,2,9,8] a, float[N,2,9,10] b"),
    "bools": (f"{FOUR}, bool[5,6] m", "Attention(q, k, v, m)", "float[N,4,5,8] y"),
    "bools of each head": (f"{GROUPED}, bool[N,4,5,6] m", "Attention(q, k, v, m)", "float[N,4,5,10] y"),
    "bools, causal": (f"{FOUR}, bool[N,1,5,6] m", "Attention<is_causal = 1>(q, k, v, m)", "float[N,4,5,8] y"),
    "numbers": (f"{FOUR}, float[N,4,5,6] f", "Attention(q, k, v, f)", "float[N,4,5,8] y"),
    "numbers, causal": (f"{FOUR}, float[5,6] f", "Attention<is_causal = 1>(q, k, v, f)", "float[N,4,5,8] y"),
    "scores": (FOUR, "Attention<qk_matmul_output_mode = 0>(q, k, v)", "float[N,4,5,8] y, , , float[N,4,5,6] s"),
}  # fmt: skip
MAKERS = {"m": some_bools, "f": infinite_mask, "n": lengths}


# a mask that does not follow the batch may be a constant
RUNS = [(name, fixed) for name in CASES for fixed in ("", "m", "f") if not fixed or f"[5,6] {fixed}" in CASES[name][0]]


@pytest.mark.parametrize(("name", "fixed"), RUNS)
def test_attention(name: str, fixed: str) -> None:
    inputs, call, outputs = CASES[name]
    names = ", ".join(part.split(" ")[-1] for part in outputs.split(", "))
    declared = ", ".join(part for part in outputs.split(", ") if part)
    agree(f"({inputs}) => ({declared}) {{ {names} = {call} }}", makers=MAKERS, constants=fixed)


def test_attention_costs_two_products_and_one_softmax() -> None:
    text = f"({FOUR}) => (float[N,4,5,8] y) {{ y = Attention<is_causal = 1>(q, k, v) }}"
    assert counts(agree(text)) == {"MUL": 1, "BATCH_MATMUL": 2, "ADD": 1, "SOFTMAX": 1}
    text = f"({FLAT}) => (float[N,5,40] y) {{ y = Attention<q_num_heads = 4, kv_num_heads = 2>(q, k, v) }}"
    found = counts(agree(text))
    assert (found["TRANSPOSE"], found["BATCH_MATMUL"]) == (4, 2)


def test_layers_share_a_mask() -> None:
    body = "t = Attention(q, k, v, m) y = Attention(t, k, v, m)"
    found = counts(agree(f"({FOUR}, bool[N,1,5,6] m) => (float[N,4,5,8] y) {{ {body} }}"))
    assert (found["CAST"], found["SUB"], found["REDUCE_MAX"]) == (1, 1, 1)


ROTATED = {
    "4-d": ("float[N,2,5,8] x", "[5,4]", "interleaved = 0"),
    "3-d": ("float[N,5,16] x", "[5,4]", "num_heads = 2"),
    "interleaved": ("float[N,2,5,8] x", "[5,4]", "interleaved = 1"),
    "part": ("float[N,2,5,8] x", "[5,2]", "rotary_embedding_dim = 4"),
    "part, interleaved": ("float[N,2,5,8] x", "[5,2]", "rotary_embedding_dim = 4, interleaved = 1"),
}


@pytest.mark.parametrize(
    "constants", [("c", "s"), (), ("c", "s", "p")], ids=["constant tables", "computed", "constant"]
)
@pytest.mark.parametrize("name", ROTATED)
def test_rotary_embedding(name: str, constants: tuple[str, ...]) -> None:
    x, table, attributes = ROTATED[name]
    batch = "1" if "p" in constants else "N"
    inputs = f"{x}, float{table} c, float{table} s, int64[{batch},5] p".replace("N", batch)
    output = x.removesuffix(" x").replace("N", batch)
    text = f"({inputs}) => ({output} y) {{ y = RotaryEmbedding<{attributes}>(x, c, s, p) }}"
    agree(text, constants=constants, makers={"p": lambda rng, shape: rng.integers(0, 5, shape)})


REFUSED = {
    "float16": (
        "(float16[1,2,3,4] q, float16[1,2,3,4] k, float16[1,2,3,4] v) => (float16[1,2,3,4] y)"
        "{ y = Attention(q, k, v) }",
        "type",
    ),
    "heads": (
        "(float[1,3,12] q, float[1,3,12] k, float[1,3,12] v) => (float[1,3,12] y)"
        "{ y = Attention<q_num_heads = 3, kv_num_heads = 2>(q, k, v) }",
        "q_num_heads",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_why(name: str) -> None:
    text, attribute = REFUSED[name]
    with pytest.raises(UnsupportedError, match=f"Attention.*{attribute}"):
        emit_tflite(from_proto(graph(text)))
