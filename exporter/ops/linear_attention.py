"""Attention without a softmax: a matrix of state for each head that every token reads and updates.

S_t = exp(g_t) S_(t-1) + k_t (outer) v_t; by the delta rule (Yang et al. 2024) with v_t - S^T k_t for v_t. Without
decay and delta rule the sum over earlier tokens is one masked matrix product; otherwise one step follows another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from exporter.ops.expansion import Expansion
from exporter.ops.op import Float, Op

__all__ = ["ROWS"]

_RULES = ("linear", "gated", "delta", "gated_delta")


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Tokens, key heads, query heads for each of them, key and value sizes."""

    tokens: int
    heads: int
    group: int
    key: int
    value: int


def linear_attention(e: Expansion) -> None:
    """query, key, value, decay, beta [B, T, heads x size]; past_state and present_state [B, heads, key, value]."""
    rule = e.attr("update_rule", "gated_delta")
    heads, key_heads = e.attr("q_num_heads"), e.attr("kv_num_heads")
    tokens = e.shape(0)[1]
    if rule not in _RULES or tokens is None or heads % key_heads:
        name, found = ("update_rule", rule) if rule not in _RULES else ("shape", f"{tokens} tokens, {heads} heads")
        raise e.refuse(name, str(found), f"{', '.join(_RULES)}; a fixed number of tokens; a multiple of key heads")
    sizes = _Sizes(tokens, key_heads, heads // key_heads, (e.shape(1)[-1] or 0) // key_heads,
                   (e.shape(2)[-1] or 0) // key_heads)  # fmt: skip
    query = e.scaled(e.input(0), e.attr("scale", 0.0) or 1 / math.sqrt(sizes.key))
    assert isinstance(query, ir.Value)
    if rule == "linear":
        _parallel(e, query, sizes)
    else:
        _stepwise(e, query, sizes, gated=rule != "delta", delta=rule != "gated")


def _parallel(e: Expansion, query: ir.Value, sizes: _Sizes) -> None:
    """Q S_0 + (Q K^T, without what lies ahead) V."""
    t, group = sizes.tokens, sizes.group
    rows = e.reshape(query, [0, t, sizes.heads, group, sizes.key])
    rows = e.op("Transpose", rows, perm=(0, 2, 3, 1, 4))
    rows = e.reshape(rows, [0, sizes.heads, group * t, sizes.key])
    key = e.op("Transpose", e.reshape(e.input(1), [0, t, sizes.heads, sizes.key]), perm=(0, 2, 3, 1))
    value = e.op("Transpose", e.reshape(e.input(2), [0, t, sizes.heads, sizes.value]), perm=(0, 2, 1, 3))
    seen = np.tile(np.tri(t, dtype=np.float32), (group, 1))
    scores = e.op("MatMul", rows, key)
    result = e.op("MatMul", e.op("Mul", scores, seen) if t > 1 else scores, value)
    state = e.op("MatMul", key, value) if e.wants(1) else None
    if e.has(3):
        result = e.op("Add", result, e.op("MatMul", rows, e.input(3)))
        state = state and e.op("Add", state, e.input(3))
    result = e.reshape(result, [0, sizes.heads, group, t, sizes.value])
    result = e.op("Transpose", result, perm=(0, 3, 1, 2, 4))
    e.finish(e.reshape(result, [0, t, sizes.heads * group * sizes.value]), state)


def _stepwise(e: Expansion, query: ir.Value, sizes: _Sizes, *, gated: bool, delta: bool) -> None:
    heads, steps = sizes.heads, sizes.tokens
    queries = _steps(e, query, steps, [0, heads, sizes.group, sizes.key])
    columns = _steps(e, e.input(1), steps, [0, heads, sizes.key, 1])
    rows = _steps(e, e.input(1), steps, [0, heads, 1, sizes.key]) if delta else columns
    values = _steps(e, e.input(2), steps, [0, heads, 1, sizes.value])
    decay: Sequence[ir.Value | None] = [None] * steps
    if gated:
        width = sizes.key if e.shape(4)[-1] == heads * sizes.key else 1
        decay = _steps(e, e.op("Exp", e.input(4)), steps, [0, heads, width, 1])
    if delta:
        rates = _steps(e, e.input(5), steps, [0, heads if e.shape(5)[-1] == heads else 1, 1, 1])
    state = e.input(3) if e.has(3) else None
    outputs = []
    for t in range(steps):
        value = values[t]
        if state is not None and decay[t] is not None:
            state = e.op("Mul", state, decay[t])
        if delta and state is not None:
            value = e.op("Sub", value, e.op("MatMul", rows[t], state))
        if delta:
            value = e.op("Mul", value, rates[t])
        update = e.op("Mul", columns[t], value)
        state = update if state is None else e.op("Add", state, update)
        outputs.append(e.reshape(e.op("MatMul", queries[t], state), [0, 1, heads * sizes.group * sizes.value]))
    e.finish(outputs[0] if steps == 1 else e.op("Concat", *outputs, axis=1), state if e.wants(1) else None)


def _steps(e: Expansion, x: ir.Value, count: int, sizes: Sequence[int]) -> list[ir.Value]:
    """[B, T, features] as T tensors of the sizes."""
    parts = [x] if count == 1 else e.ops("Split", count, x, axis=1, num_outputs=count)
    return [e.reshape(part, sizes) for part in parts]


ROWS = (
    Op(
        "LinearAttention",
        Float("written with simpler operators"),
        expand=linear_attention,
        ignores=("chunk_size",),
    ),
)
